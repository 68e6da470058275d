"""Searches for better settings on hours of the log itself, and judges them on later hours that the search never saw.

dials      which settings are changed, in which order, over which values
replayed   encodes hours once into a scratch folder, and runs passes of the original over them
search     changes one setting after another, as long as the searched hours show a gain
judged     compares whole pipelines, with old and new settings, on the hours kept back
lines      writes the result as YAML, on request into the settings file
"""
