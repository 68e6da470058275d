"""Benchmarks, one per module: `python -m benchmarks.NAME`; the last line of output is one JSON object."""
