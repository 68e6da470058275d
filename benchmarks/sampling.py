"""Measures calibration on the full traffic when the log keeps one in a hundred of the rows without a click.

The site is simulated, so its true probabilities are known. Only a share of its rows without a click is kept, as
producers do whose traffic is too much to keep; `data.negative_sampling` is that share. Every hour's version then scores
every tenth row of the next hour's full traffic: predicted clicks over true clicks should be 1. The first half of the
hours is for learning. The site has neither drift nor births, because nobody can predict the clicks of a new item: with
births, the true click rate moves by 5% from hour to hour.

How close to 1 the ratio can come depends on how much the log keeps. If 10,000 rows are kept at 1%, the traffic that
they stand for is off by 1 to 2% by chance alone, and no model can know that. So many rows are needed.

    python -m benchmarks.sampling
    python -m benchmarks.sampling --keep 0.1 --hours 24
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from benchmarks.record import Figures
from saec.compression.challenger import Challenger
from saec.config import Config
from saec.data.hourly_files import write_hour
from saec.data.simulate import Simulation, simulate_hour
from saec.gate.metrics import auc
from saec.hours import Hour
from saec.schedule.advance import advance
from saec.schedule.pipeline import Pipeline

FIRST = Hour.parse("2026-03-01T00")
SCORED = 10
"""One in this many rows of the full traffic is scored."""
FIELDS = (
    {"name": "user_id"},
    {"name": "item_id"},
    {"name": "item_tags", "kind": "list", "max_values": 4},
    {"name": "site_domain", "type": "string"},
    {"name": "device"},
    {"name": "price", "kind": "numeric", "type": "float"},
)


@dataclass(frozen=True)
class Met:
    """What a version predicted for an hour that it had not seen, and what is true."""

    promised: float
    """Clicks."""
    true: float
    """Clicks expected by the true probabilities."""
    auc: float
    published: bool


def sampled_site(folder: Path, keep: float, hours: int, rows: int, rate: float) -> Iterator[Met]:
    """Do the hours of a down-sampled site, and score the whole next hour with each version.

    Args:
        folder: for data and workspace.
        keep: share of the rows without a click that the log holds.
        hours: how many.
        rows: of an hour's full traffic, on average.
        rate: its share of clicks.
    """
    simulation = Simulation(
        seed=5, rows_per_hour=rows, users=20_000, items=500, base_rate=rate, drift=0.0, new_share=0.0
    )
    config = Config.model_validate(
        {
            "workspace": folder / "workspace",
            "fields": FIELDS,
            "crosses": [["site_domain", "device"]],
            "data": {
                "source": str(folder / "data"),
                "time_column": "event_time",
                "label_column": "clicked",
                "row_id_columns": ["impression_id"],
                "negative_sampling": keep,
            },
        }
    )
    pipeline, draw = Pipeline(config), np.random.default_rng(1)
    for hour in (FIRST + offset for offset in range(hours)):
        table, _ = simulate_hour(simulation, hour)
        kept_B = (table["clicked"].to_numpy() == 1) | (draw.random(len(table)) < keep)
        write_hour(folder / "data", hour, table.filter(pa.array(kept_B)))
        [row] = advance(pipeline, hour + 1)
        if row.record is None:
            raise click.ClickException(f"hour {hour} is {row.ending}: {row.message}")
        arrays = pipeline.workspace.checkpoints.load(row.record["challenger"])
        version = Challenger.restore(config, arrays, "the newest").version
        assert version is not None
        table, true_B = simulate_hour(simulation, hour + 1)
        table, true_B = table.take(np.arange(0, len(table), SCORED)), true_B[::SCORED]
        scores_B = version.score(table.select(list(version.schema.readers)))
        labels_B = table["clicked"].to_numpy().astype(np.uint8)
        yield Met(float(scores_B.sum()), float(true_B.sum()), auc(labels_B, scores_B), row.state == "PUBLISHED")


@click.command()
@click.option("--keep", default=0.01, show_default=True, help="Share of the rows without a click that is kept.")
@click.option("--hours", default=32, show_default=True, help="Hours, of which the first half is for learning.")
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of an hour's full traffic.")
@click.option("--rate", default=0.02, show_default=True, help="Share of clicks of the full traffic.")
def main(keep: float, hours: int, rows: int, rate: float) -> None:
    """Measure calibration on the full traffic under down-sampling."""
    with tempfile.TemporaryDirectory() as folder:
        met = list(sampled_site(Path(folder), keep, hours, rows, rate))
    late = met[hours // 2 :]
    figures = Figures("sampling")
    ratio = sum(hour.promised for hour in late) / sum(hour.true for hour in late)
    figures.add(
        "clicks promised / true ones, second half", ratio, "", target="1.00 ± 0.01", holds=abs(ratio - 1.0) <= 0.01
    )
    figures.add("AUC on the last hour, all rows", late[-1].auc, "")
    figures.add("hours published", sum(hour.published for hour in met), f"of {hours}")
    figures.finish()


if __name__ == "__main__":
    main()
