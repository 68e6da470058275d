"""The gate at its own minimum row count: worse challengers refused, equal ones let through, NaN never.

Decisions: challengers, references and rows are those of `benchmarks.gate`, which says how they are drawn: click rate
6%, AUC 0.75, scores that correlate by 0.986 within a class, as many rows as the gate itself asks for
(`rows_to_decide`). "Truly worse beyond the margin" is simulated at exactly the margin, the hardest case: 0.02 of AUC,
or 1.5% of the base rate's entropy in log loss, by a shift or by overconfidence. Two references, original and champion,
are what every hour after the first has. Against one alone the level of the test is 5% by construction, over all its
looks; that case is reported by `python -m benchmarks.gate`. A challenger clearly beyond the margin (twice it) faces one
reference.
"""

from __future__ import annotations

from benchmarks.gate import AUC, CONFIG, Model, accepted, faults, minimum_rows, verdicts
from benchmarks.record import Figures


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Simulate, judge, count."""
    challengers = 60 if short else 1000
    allowed, wanted = (0.15, 0.85) if short else (0.05, 0.95)  # 60 draws of exactly 5% scatter up to 9 (99.8%)
    rows, _ = minimum_rows(seed, references=2)
    rows_alone, _ = minimum_rows(seed, references=1)
    for name, model in faults().items():
        share = accepted(verdicts(challengers, rows, model, 2, seed))
        figures.add(
            f"10. worse by the margin in {name}, accepted, of {challengers:,} on {rows:,} rows",
            share,
            "share",
            f"<= {allowed}",
            holds=share <= allowed,
        )
    twice = Model(auc=AUC - 2 * CONFIG.auc_margin)
    share = accepted(verdicts(challengers, rows_alone, twice, 1, seed))
    figures.add(
        f"10. worse by twice the margin in AUC, one reference, accepted, of {challengers:,}",
        share,
        "share",
        "<= 0.05",
        holds=share <= 0.05,
    )
    for words, references, count in (("both references", 2, rows), ("its only reference", 1, rows_alone)):
        share = accepted(verdicts(challengers, count, Model(), references, seed))
        figures.add(
            f"10. equal to {words}, accepted, of {challengers:,} on {count:,} rows",
            share,
            "share",
            f">= {wanted}",
            holds=share >= wanted,
        )
    broken = accepted(verdicts(challengers, rows, Model(auc=0.9), 2, seed, broken=True))
    figures.add(
        f"10. far better but for one NaN, accepted, of {challengers:,}", broken, "share", "= 0", holds=broken == 0.0
    )
