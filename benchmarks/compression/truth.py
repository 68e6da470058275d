"""Scores simulated rows with their true probabilities, the best that any model can do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.compression.stretch import Stretch
from saec.data.hourly_files import hour_file
from saec.errors import InputError
from saec.gate.metrics import auc, base_rate_entropy, logloss


def figures(stretch: Stretch) -> dict[str, float] | None:
    """AUC and log loss of the truth, and the log loss of the constant; None for a log without a known truth.

    Raises:
        InputError: when the truth has other rows than were learnt from.
    """
    root = Path(stretch.config.data.source).parent / "truth"
    if not root.is_dir():
        return None
    parts = []
    for hour, rows, _, scored in stretch:
        if scored:
            probability_B = pq.read_table(hour_file(root, hour))["probability"].to_numpy()
            if len(probability_B) != len(rows):
                raise InputError(
                    f"truth of hour {hour} has {len(probability_B)} rows, the hour {len(rows)}; "
                    "simulate the hours again",
                    reason="layout",
                )
            parts.append(probability_B)
    labels_B, probability_B = stretch.labels_B, np.concatenate(parts)
    return {
        "auc": auc(labels_B, probability_B),
        "logloss": logloss(labels_B, probability_B),
        "constant": base_rate_entropy(labels_B),
    }
