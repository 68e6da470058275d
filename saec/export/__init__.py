"""Versions in the formats of others."""
