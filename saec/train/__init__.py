"""Trains the models: optimiser, training loop, and the original model."""
