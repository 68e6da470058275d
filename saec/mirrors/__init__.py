"""What is told outside: releases to a model registry, hours to a receiver of lineage; nothing here is read back."""
