"""The cost of a release delay: which versions answer which rows."""

import numpy as np
import pytest

from benchmarks.delay import DELAYS, MINUTE, Study, released
from saec.data.rows import EncodedRows
from saec.gate.metrics import auc
from saec.hours import Hour
from saec.ledger import HourRow

FIRST = Hour.parse("2017-10-01T00")


def ended(index: int, state: str = "PUBLISHED", checkpoint: str | None = "c") -> HourRow:
    """An hour of the ledger."""
    version = f"v{index}" if state == "PUBLISHED" else None
    return HourRow(FIRST + index, state, attempts=1, fence=1, version=version, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([ended(0), ended(1)], []),
        ([ended(0), ended(1), ended(2), ended(3)], [(2, "v0", "v1"), (3, "v1", "v2")]),
        (
            [ended(0), ended(1), ended(2, "HELD"), ended(3), ended(4)],
            [(2, "v0", "v1"), (3, "v1", "v1"), (4, "v1", "v3")],
        ),
        ([ended(0), ended(1), ended(4)], [(4, "v1", "v1")]),
        ([ended(0), ended(1), ended(2, "FAILED", None), ended(3)], [(3, "v1", "v1")]),
    ],
)
def test_who_answers(rows, found):
    """The version before the newest release waits with its rows only in the hour right after that release."""
    assert [(row.hour.index - FIRST.index, older, newer) for row, older, newer in released(rows)] == found


def test_rows_of_the_first_minutes_are_answered_by_the_version_before():
    """A row at minute 5 is in time for a delay of 5 minutes; over the whole hour the older version answers all."""
    rng = np.random.default_rng(0)
    labels_B = (rng.random(120) < 0.5).astype(np.uint8)
    times_B = np.arange(120) * MINUTE // 2 + int(FIRST.start.timestamp() * 1000)
    older_B, newer_B = rng.random(120), np.clip(labels_B * 0.3 + rng.random(120) * 0.7, 0, 1)
    found = Study()
    found.add(EncodedRows(labels_B, times_B, np.zeros((120, 1), np.uint64)), FIRST, older_B, newer_B)
    assert [found.before[delay] for delay in DELAYS] == [0, 10, 20, 40, 120]
    assert found.pooled(0).auc.difference == 0.0
    assert found.pooled(60).auc.first == pytest.approx(auc(labels_B, older_B))
    mixed_B = np.concatenate([older_B[:20], newer_B[20:]])
    assert found.pooled(10).auc.first == pytest.approx(auc(labels_B, mixed_B))
