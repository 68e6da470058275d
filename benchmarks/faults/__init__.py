"""The scoreboard of faults: injects faults from a seed and counts whether hours survive them.

    python -m benchmarks.faults --seed 1             # every figure, as `make faults`
    python -m benchmarks.faults --seed 1 --short     # the same with small counts, as CI does
    python -m benchmarks.faults --seed 1 --only 2 5  # some of them

Decisions: a figure of the scoreboard is a module `figure_NN_NAME`; whatever else lies here is shared by them. It is
found by its name, so adding one takes nothing but the file. Its docstring's first line is what is measured; it defines

    def figure(seed: int, short: bool, figures: Figures) -> None

which adds one or more figures, each with a target. What is needed of a small pipeline is `tests.conftest.Site`.
"""
