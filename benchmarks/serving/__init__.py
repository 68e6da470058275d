"""Measures what compression gains in serving: speed, memory and time to load."""
