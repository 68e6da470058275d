"""Compresses the original: clustering, codebooks, the keyless index from key to code, and retraining."""
