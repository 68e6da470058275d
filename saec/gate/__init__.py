"""Judges each hour's candidate: metrics, paired tests and the verdict."""
