"""Serving: what compression buys a live model in speed, memory and time to load."""
