"""Clustering, codebooks, the keyless index from key to code, and retraining."""
