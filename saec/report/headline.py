"""The headline of every report: the served figures of live version, version and original, in words and table rows.

Decisions: the live version is shown beside the version made from the hour before (released or not), so that the cost of
holds is not mistaken for the cost of compression. A difference always comes with its interval. The wording is made
here, so that terminal, page and Prefect's UI say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saec.gate.paired import NAMES, Gap, Paired, pair_of, pooled
from saec.report import text
from saec.report.records import Record, hour_of, number, ordered, stood_in

MODELS = {"live": "served", "version": "version_served", "original": "original_served"}
"""The models that score an hour before it is learnt, and their keys in a record: `auc_served`, `auc_version_served`,
…"""
TOLD = {"live": "live", "version": "version of the hour before", "original": "original"}
"""Their names for people."""
STAND_IN = "instead of the version of the hour's end"
METRICS = {"auc": "AUC", "logloss": "log loss"}
HEAD = ("over", "rows", "compared", "AUC difference", "95% interval", "log loss difference", "95% interval")


def plain_pairs(pairs: Mapping[str, Paired]) -> dict[str, dict[str, float]]:
    """Pairs by name in plain values, see `saec.gate.paired.Paired.as_dict`."""
    return {name: paired.as_dict(name) for name, paired in pairs.items()}


def gap_text(gap: Gap, first: str = "live", second: str = "original") -> str:
    """`0.7312 live, 0.7345 original: −0.0033 (−0.0041 to −0.0025)`."""
    return f"{text.decimal(gap.first)} {first}, {text.decimal(gap.second)} {second}: {difference_text(gap)}"


def difference_text(gap: Gap) -> str:
    """A difference with its interval: `−0.0033 (−0.0041 to −0.0025)`."""
    return f"{text.signed(gap.difference)} ({interval_text(gap)})"


def interval_text(gap: Gap) -> str:
    """`−0.0041 to −0.0025`, a dash where the rows do not tell."""
    bounds = [text.signed(bound) for bound in (gap.lower, gap.upper)]
    return text.DASH if text.DASH in bounds else " to ".join(bounds)


def typical_text(paired: Paired) -> str:
    """`AUC −0.0034, log loss +0.0018`, medians of the hours: a few of them may decide what all rows come to."""
    return ", ".join(f"{name} {text.signed(getattr(paired, metric).median)}" for metric, name in METRICS.items())


def covered(paired: Paired) -> str:
    """`24 hours, 215,432 rows`."""
    return f"{text.plural(paired.hours, 'hour')}, {text.count(paired.rows)} rows"


def windows(summary: Mapping[str, Any]) -> dict[str, dict[str, Paired]]:
    """The pairs of a summary by what they are pooled over: the last hours, and all where these are more."""
    last = summary["window"]["length"]
    found = {f"last {last} hours": summary["served"]["last"]}
    if summary["hours"] > summary["window"]["hours"]:
        found[f"all {text.plural(summary['hours'], 'hour')}"] = summary["served"]["all"]
    return found


def pair_rows(over: Mapping[str, Mapping[str, Paired]]) -> list[list[str]]:
    """A row a window and pair, under `HEAD`: which window, which rows, who minus whom, by how much.

    Args:
        over: pairs by the name of their window, `last 24 hours` and the like.
    """
    return [
        [
            window,
            text.count(paired.rows),
            name.replace("-", f" {text.MINUS} "),
            *(
                cell
                for gap in (paired.auc, paired.logloss)
                for cell in (text.signed(gap.difference), interval_text(gap))
            ),
        ]
        for window, pairs in over.items()
        for name in NAMES
        if (paired := pairs.get(name)) is not None
    ]


def level_rows(record: Record) -> list[list[str]]:
    """A row per model: AUC and log loss on all rows of an hour; none if the hour has no served figures."""
    rows = [
        [TOLD[model], *(text.decimal(record.get(f"{metric}_{key}")) for metric in METRICS)]
        for model, key in MODELS.items()
    ]
    return [row for row in rows if row[1:] != [text.DASH] * len(METRICS)]


def newest_headline(records: Sequence[Record]) -> Record | None:
    """The newest hour with served figures."""
    keys = [f"auc_{key}" for key in MODELS.values()]
    return next(
        (record for record in reversed(ordered(records)) if any(number(record, key) is not None for key in keys)), None
    )


def stand_in_text(record: Record) -> str:
    """Why the judged candidate was published instead of the version of the hour's end; empty if it was not."""
    return f"the judged candidate, {STAND_IN}: {text.plain(record['release_problem'])}" if stood_in(record) else ""


def trailing(records: Sequence[Record], name: str, hours: int) -> Iterator[tuple[Record, Paired | None]]:
    """Each hour, oldest first, with a pair pooled over the hours on the clock up to it; None where none knows it.

    Args:
        records: the hours, in any order.
        name: one of `NAMES`.
        hours: how many.
    """
    window: list[tuple[int, Mapping[str, Any]]] = []
    for record in ordered(records):
        now = hour_of(record).index
        window = [(index, pair) for index, pair in window if index > now - hours]
        if (pair := pair_of(record, name)) is not None:
            window.append((now, pair))
        yield record, pooled(pair for _, pair in window)
