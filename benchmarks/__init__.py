"""Benchmarks, one module each: `python -m benchmarks.NAME`; the last line of output is one JSON object."""
