"""A search over the dials that matter, on hours of the log itself, judged on later ones that the search never saw.

dials      what is turned, in which order, over which values
replayed   hours encoded once into a scratch folder, and passes of the original over them
search     one dial after another, for as long as the searched hours show a gain
judged     whole pipelines, as they are set and as tuned, side by side on the hours kept back
lines      what was found as YAML, and into the settings file where that is asked for
"""
