"""Carries the challenger's state over to changed fields; `saec.train.carried` does the same for the original.

Decisions: the version made from the hour before does not change. It still scores rows by its own schema, and kept
fields are learnt through its codes until the next version exists; it has no codes for new fields (`Challenger.codes`).

Shapes: F fields of the new schema, C clusters and T codewords of all fields, Q classes of frequency, A of age.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.codebooks import Centroids, Codebooks
from saec.compression.codes import Standards
from saec.compression.places import CLUSTERS
from saec.model.table import first_values, shared_keys
from saec.train.carried import carried_learner
from saec.train.tensors import Arrays, section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saec.config import Config


def carried_challenger(config: Config, arrays: Arrays, sources_F: Sequence[int]) -> Arrays:
    """The challenger's state over the fields of the settings.

    Args:
        config: settings with the new fields.
        arrays: `Challenger.snapshot` over the old ones.
        sources_F: for each field its index among the old ones, -1 for a new one.
    """
    old = Standards.from_arrays(section(arrays, "standards."))
    standards = _carried_standards(old, sources_F, config.model.width)
    codebooks = _carried_codebooks(config, Codebooks(**section(arrays, "codebooks.")), old.centroids, sources_F)
    carried = {name: array for name, array in arrays.items() if name.startswith(("auto.", "files.", "share."))}
    carried |= carried_learner(config, arrays, sources_F)
    carried |= {f"standards.{name}": array for name, array in standards.arrays().items()}
    return carried | {f"codebooks.{name}": array for name, array in vars(codebooks).items()}


def _carried_standards(old: Standards, sources_F: Sequence[int], width: int) -> Standards:
    """Measurements of kept fields; new fields have none."""
    start = Standards.start(len(sources_F), width)
    kept = [field for field, source in enumerate(sources_F) if source >= 0]
    sources = [sources_F[field] for field in kept]
    for then, now in ((vars(old.returns), vars(start.returns)), (vars(old.worth), vars(start.worth))):
        for name, array in now.items():
            array[:, kept] = then[name][:, sources]
    start.drawn_errors_F[kept] = old.drawn_errors_F[sources]
    start.direct_F[kept] = old.direct_F[sources]
    none_KD = np.zeros((0, width), np.float32)
    centroids = Centroids.joined([none_KD if source < 0 else old.centroids.of(source) for source in sources_F])
    return replace(start, centroids=centroids, trials_T=old.trials_T, hours=old.hours)


def _carried_codebooks(config: Config, old: Codebooks, clusters: Centroids, sources_F: Sequence[int]) -> Codebooks:
    """Codewords of kept fields; new fields start as in a new pipeline."""
    fields, width = len(sources_F), config.model.width
    defaults_FD = first_values(shared_keys(config.field_names, 1), width, config.seed)
    fresh = Codebooks.start(defaults_FD, Centroids.empty(fields, width))
    parts = [
        (fresh, field * CLUSTERS, CLUSTERS)
        if source < 0
        else (old, int(clusters.starts_F[source]), int(clusters.counts_F[source]) + CLUSTERS)
        for field, source in enumerate(sources_F)
    ]
    return Codebooks(
        *(
            np.concatenate([getattr(books, name)[start : start + count] for books, start, count in parts])
            for name in ("vectors_TD", "squares_T")
        )
    )
