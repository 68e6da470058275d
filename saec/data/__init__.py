"""Reads and prepares the data of an hour: partitions, checks, quarantine, feature keys and vocabulary."""
