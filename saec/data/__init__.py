"""Partitions in: checks and quarantine, fields and crosses, vocabulary, batches."""
