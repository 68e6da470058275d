"""Stores versions, releases and checkpoints of training state; retention and verification."""
