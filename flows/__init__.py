"""Prefect flows: decorators, retries, hours and what the UI shows; the work is in `saec`."""
