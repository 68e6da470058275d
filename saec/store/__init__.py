"""Versions, releases, checkpoints of training state, retention and verification."""
