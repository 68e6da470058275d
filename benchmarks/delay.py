"""Measures the cost of a release delay: rows before the release are answered by the previous version.

The figures that an hour records (`auc_served`) assume that the delay between the hour's end and the release is 0. Here
each hour's rows are scored by the version released for the hour before and by the one that was live before that. With a
delay of d minutes, the rows of the first d minutes get the older version's scores. Figures are pooled over the hours,
with the paired difference from a delay of 0. Nothing is trained; the workspace is only read.

The versions of all hours are needed: set `retention: 1000` before the run. Hours whose versions are gone are left out
and counted. The versions are those that are PUBLISHED in the ledger; holds and rollbacks by a person and late rows are
not taken into account.

    saec run --config configs/globo.yaml
    python -m benchmarks.delay --config configs/globo.yaml
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.record import Figures
from saec.config import Config
from saec.data.ingest import ingest_hour
from saec.data.rows import EncodedRows
from saec.errors import SaecError
from saec.gate.metrics import Floats, auc
from saec.gate.paired import Paired, pooled, served_pairs
from saec.hours import Hour
from saec.ledger import HourRow, Ledger
from saec.serving import Model
from saec.settings_file import load_config
from saec.store.model_store import ModelStore, open_store

DELAYS = (0, 5, 10, 20, 60)
"""Minutes; the last is the whole hour."""
MINUTE = 60_000
"""Milliseconds."""


@dataclass
class Study:
    """The sums over all hours that were scored."""

    pairs: dict[int, list[Mapping[str, Any]]] = field(default_factory=lambda: {delay: [] for delay in DELAYS})
    """By delay: each hour's delayed scores beside those without a delay."""
    before: Counter[int] = field(default_factory=Counter)
    """By delay: rows that came before the release."""
    rows: int = 0
    """Of all hours."""
    left_out: int = 0
    """Hours whose versions are gone."""
    furthest: float = 0.0
    """Largest distance of an hour's AUC without a delay to the recorded one."""

    def add(self, rows: EncodedRows, hour: Hour, older_B: Floats, newer_B: Floats) -> None:
        """Add an hour, scored by the version before and by the one that was released for it."""
        minutes_B = (rows.times_B - int(hour.start.timestamp() * 1000)) / MINUTE
        self.rows += len(rows)
        for delay in DELAYS:
            early_B = minutes_B < delay
            scores = {"live": np.where(early_B, older_B, newer_B), "version": newer_B}
            self.pairs[delay].append(served_pairs(rows.labels_B, scores)["live-version"])
            self.before[delay] += int(early_B.sum())

    def pooled(self, delay: int) -> Paired:
        """Compare a delay with no delay, over all hours.

        Raises:
            click.ClickException: no hour could be scored.
        """
        found = pooled(self.pairs[delay])
        if found is None:
            raise click.ClickException("no hour has both versions in the store: set retention.versions, run again")
        return found


def released(rows: Iterable[HourRow]) -> Iterator[tuple[HourRow, str, str]]:
    """Trained hours, each with the version that was live before the newest release, and the one that release brought.

    If the hour before published nothing, both are the same version.

    Args:
        rows: the ledger, oldest hour first.
    """
    older: str | None = None
    newest: tuple[Hour, str] | None = None
    for row in rows:
        if newest and newest[0] < row.hour - 1:
            older = newest[1]
        if row.checkpoint and older and newest:
            yield row, older, newest[1]
        if row.state == "PUBLISHED" and row.version:
            older, newest = (newest[1] if newest else None), (row.hour, row.version)


def study(config: Config, rows: Iterable[HourRow], store: ModelStore) -> Study:
    """Score every hour whose versions are there."""
    found = Study()
    kept: dict[str, Model | None] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row, older, newer in released(rows):
            kept = {version: kept.get(version) or _opened(store, version) for version in (older, newer)}
            models = {version: model for version, model in kept.items() if model}
            if len(models) < len(kept):
                found.left_out += 1
                continue
            encoded = ingest_hour(config, row.hour, folder).load_rows(folder)
            scores = {version: model.score_keys(encoded.keys_BS) for version, model in models.items()}
            found.add(encoded, row.hour, scores[older], scores[newer])
            recorded = (row.record or {}).get("auc_served")
            if recorded is not None:
                found.furthest = max(found.furthest, abs(auc(encoded.labels_B, scores[newer]) - recorded))
    return found


def _opened(store: ModelStore, version: str) -> Model | None:
    """A version of the store, None when it is gone."""
    try:
        return Model.open(store.open(version), verify=False)
    except SaecError:
        return None


def report(figures: Figures, found: Study) -> None:
    """The figures, delay by delay."""
    at_once = found.pooled(0)
    figures.add("hours", at_once.hours, "hours")
    figures.add("hours whose versions are gone", found.left_out, "hours")
    figures.add("rows", found.rows, "rows")
    figures.add("largest distance to a recorded auc_served", found.furthest, "AUC", "<= 1e-9", found.furthest <= 1e-9)
    for delay in DELAYS:
        pair = found.pooled(delay)
        said = "the whole hour" if delay == DELAYS[-1] else f"{delay} minutes"
        if delay:
            figures.add(f"rows before the release, {said}", found.before[delay] / found.rows, "share")
        for metric, gap in (("AUC", pair.auc), ("log loss", pair.logloss)):
            figures.add(f"{metric}, {said}", gap.first, metric)
            if delay:
                figures.add(f"{metric}, {said} minus at once", gap.difference, metric)
                figures.add(f"{metric}, {said}, half of the 95% interval", gap.reach, metric)


@click.command()
@click.option(
    "--config",
    "settings",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Settings of a finished workspace.",
)
def main(settings: Path) -> None:
    """Measure what a delay of the release costs."""
    config = load_config(settings)
    figures = Figures("delay")
    report(figures, study(config, Ledger(config.ledger_url).rows(), open_store(config.store_url)))
    figures.finish()


if __name__ == "__main__":
    main()
