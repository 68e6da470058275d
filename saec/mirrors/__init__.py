"""Reports releases to a model registry and hours to a lineage receiver; nothing is read back."""
