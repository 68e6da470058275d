"""Injects faults from a seed and counts whether hours survive them: the scoreboard of faults.

    python -m benchmarks.faults --seed 1             # every figure, as `make faults`
    python -m benchmarks.faults --seed 1 --short     # the same with small counts, as CI does
    python -m benchmarks.faults --seed 1 --only 2 5  # some of them

Decisions: a figure of the scoreboard is a module `figure_NN_NAME`; the other modules here are shared by the figures.
Figures are found by their names, so a new one needs nothing but its file. The first line of its docstring says what is
measured, and it defines

    def figure(seed: int, short: bool, figures: Figures) -> None

which adds one or more figures, each with a target. What is needed of a small pipeline is `tests.conftest.Site`.
"""
