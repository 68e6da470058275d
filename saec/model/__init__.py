"""The CTR networks and the full embedding table of the original."""
