"""Metrics, paired tests and the verdict on a challenger."""
