"""Inspects an unknown click log and drafts settings for it; checks settings against a log."""
