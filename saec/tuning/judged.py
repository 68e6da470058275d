"""Compares two whole pipelines, with the old and the new settings, on hours that the search never saw.

Decisions: both pipelines run the normal steps from the first hour on, each in its own workspace with ledger and store
under the scratch folder; nothing live is read or written. The comparison uses the version made from the hour before,
read back from its files, on all rows of the hour, as users would be served. A killed pipeline continues where it
stopped, like any backfill.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.numpy import load_file

from saec.config import MirrorsConfig
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.steps import SERVED_SCORES
from saec.tuning.replayed import Rows, Told, paired

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from saec.config import Config
    from saec.gate.paired import Paired
    from saec.hours import Hour
    from saec.ledger import HourRow

_SCORES = "version_B"


@dataclass(frozen=True)
class Replay:
    """A pipeline in a workspace of its own."""

    config: Config
    """As it is replayed: nothing in it leads to what is live."""
    hours: Sequence[Hour]

    @classmethod
    def of(cls, config: Config, hours: Sequence[Hour], judged: int, folder: Path) -> Replay:
        """A pipeline over some hours.

        Args:
            config: the settings that are tried.
            hours: all hours.
            judged: so many of the last ones are kept, to be compared.
            folder: of the workspace.
        """
        apart = {
            "workspace": folder,
            "store": "",
            "ledger": "",
            "retention": judged + 1,
            "serving": config.serving.model_copy(update={"log": None}),
            "mirrors": MirrorsConfig(),
        }
        return cls(config.model_copy(update=apart), hours)

    def run(self, told: Told) -> None:
        """Do the hours that are not done yet."""
        pipeline = Pipeline(self.config, actor="saec tune")
        wanted = {"only": "missing", "promote": True, "stop_on_failure": False}
        asked = (
            None if pipeline.ledger.backfills.current() else ask(self.hours[0], self.hours[-1], "saec tune", **wanted)
        )
        run_backfill(pipeline, asked, listener=_Hours(len(self.hours), told))

    def scores(self, hour: Hour) -> NDArray[np.float64] | None:
        """Scores of an hour's rows by the version made before it; None where there are none."""
        path = self.config.workspace / "hours" / hour.compact / SERVED_SCORES
        return load_file(path).get(_SCORES) if path.exists() else None

    def seconds(self) -> float:
        """Seconds that its hours took, as the ledger has them."""
        rows = Pipeline(self.config).ledger.rows(self.hours[0])
        return sum(sum((row.record or {}).get("seconds", {}).values()) for row in rows)


def judge(rows: Rows, judged: Sequence[Hour], present: Replay, tuned: Replay) -> Paired | None:
    """The tuned pipeline's versions minus those as set, on the judged hours that both have served; None without any."""
    labels, first, second = [], [], []
    for hour in judged:
        tuned_B, present_B = tuned.scores(hour), present.scores(hour)
        encoded = rows.of(hour)
        if tuned_B is not None and present_B is not None and len(tuned_B) == len(present_B) == len(encoded):
            labels.append((encoded.labels_B, encoded.weights_B))
            first.append(tuned_B)
            second.append(present_B)
    return paired(labels, first, second) if labels else None


class _Hours:
    """Counts hours as they end."""

    def __init__(self, hours: int, told: Told) -> None:
        self.hours, self.told = hours, told

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:  # noqa: ARG002 - as a listener is told
        """So many are done."""
        self.told(done / self.hours)

    def on_step(self, hour: Hour, step: str) -> None:
        """Not counted."""

    def on_hour(self, row: HourRow) -> None:
        """Told by the next plan."""
