"""Optimiser, training loop and evaluation."""
