"""Saec: hourly CTR retraining with similarity-aware compressed embeddings (arXiv 1903.00103)."""

__version__ = "0.1.0"
