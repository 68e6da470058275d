"""Carries the original's training state over to changed fields: kept fields stay, new ones start as in a new pipeline.

Decisions: everything here is arrays to arrays, so the state of the hour before stays as it was written, and carrying it
over again gives the same. A kept field keeps its features with their rows, its default row and class rows, and its
part of each layer that reads the fields; what the layers above have learnt stays whole. Vectors and weights of a new
field are those it would have in a new pipeline, so it starts near zero and is learnt like any other.

Shapes: F fields of the new schema, V features known, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec.data.cohorts import GONE
from saec.data.shards import LOCAL, LOCAL_BITS
from saec.data.vocabulary import CLASSES
from saec.model.networks import build_network, field_axis
from saec.model.table import EmbeddingTable, shared_keys
from saec.train.tensors import Arrays, network_arrays, section, shards_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from saec.config import Config

SHARED = "state.shared"
"""How many rows of a state's table features share."""
_NETWORKS, _OPTIMISER = ("network.", "averaged."), "optimiser."


def carried_original(config: Config, arrays: Arrays, sources_F: Sequence[int]) -> Arrays:
    """The original's state over the fields of the settings.

    Args:
        config: settings with the new fields.
        arrays: `Original.snapshot` over the old ones.
        sources_F: for each field its index among the old ones, -1 for a new one.
    """
    sources = np.array(sources_F, np.int64)
    arrays = _in_one(arrays)
    vocabulary, rows = _carried_vocabulary(section(arrays, "vocabulary."), sources)
    own = int((arrays["vocabulary.row_V"] >= 0).sum())
    old_shared = int(arrays.get(SHARED, len(arrays["table.vectors_VD"]) - own))
    fresh = EmbeddingTable(config.model.width, shared_keys(config.field_names, 1 + CLASSES), config.seed)
    shared_rows = _shared_rows(sources, old_shared // (1 + CLASSES))
    carried = {f"vocabulary.{name}": array for name, array in vocabulary.items()}
    for name, fresh_V in (("vectors_VD", fresh.vectors_VD), ("squares_V", fresh.squares_V)):
        old_V = arrays[f"table.{name}"]
        kept = shared_rows >= 0
        shared_V = fresh_V.copy()
        shared_V[kept] = old_V[shared_rows[kept]]
        carried[f"table.{name}"] = np.concatenate([shared_V, old_V[rows]])
    return carried | {SHARED: np.array(len(shared_V))} | carried_learner(config, arrays, sources_F)


def _in_one(arrays: Arrays) -> Arrays:
    """The state in one shard, without what is forgotten."""
    parts = shards_of(arrays)
    starts_S = np.cumsum([0, *(len(part["table.squares_V"]) for part in parts)])
    there = [part["vocabulary.row_V"] != GONE for part in parts]
    joined = {name: array for name, array in arrays.items() if "/" not in name}
    for name in parts[0]:
        if name.startswith("vocabulary."):
            joined[name] = np.concatenate([part[name][alive_V] for part, alive_V in zip(parts, there, strict=True)])
        elif name.startswith("table."):
            joined[name] = np.concatenate([part[name] for part in parts])
    row_V = joined["vocabulary.row_V"].astype(np.int64)
    own_V = row_V >= 0
    row_V[own_V] = starts_S[row_V[own_V] >> LOCAL_BITS] + (row_V[own_V] & LOCAL)
    return {**joined, "vocabulary.row_V": row_V}


def carried_learner(config: Config, arrays: Arrays, sources_F: Sequence[int]) -> Arrays:
    """Network and optimiser over other fields; arguments as of `carried_original`."""
    fresh = network_arrays(build_network(config.model, len(sources_F), config.seed))
    carried = {}
    for name, value in arrays.items():
        if name.startswith(_NETWORKS):
            parameter = name.partition(".")[2]
            start = fresh[parameter]
        elif name.startswith(_OPTIMISER):
            parameter = name.removeprefix(_OPTIMISER).partition(".")[2]
            start = np.zeros_like(fresh[parameter])
        else:
            continue
        axis = field_axis(parameter)
        laid_out = axis is not None and value.ndim > 0
        carried[name] = _by_field(value, start, axis or 0, sources_F) if laid_out else value
    return carried


def _by_field(
    old: NDArray[np.float32], start: NDArray[np.float32], axis: int, sources_F: Sequence[int]
) -> NDArray[np.float32]:
    """A parameter over other fields: the part of each kept one from the old, of each new one from the start."""
    parts = np.split(start.copy(), len(sources_F), axis)
    each = parts[0].shape[axis]
    for field, source in enumerate(sources_F):
        if source >= 0:
            parts[field] = old.take(range(source * each, (source + 1) * each), axis)
    return np.concatenate(parts, axis)


def _carried_vocabulary(arrays: Arrays, sources: NDArray[np.int64]) -> tuple[Arrays, NDArray[np.int64]]:
    """The features of kept fields, and the old table rows of those that have one, in their new order."""
    places = {int(source): field for field, source in enumerate(sources) if source >= 0}
    fields_V = arrays["fields_V"].astype(np.int64)
    new_fields = np.array([places.get(field, -1) for field in range(int(fields_V.max(initial=-1)) + 1)], np.int64)
    kept_V = new_fields[fields_V] >= 0 if len(fields_V) else np.zeros(0, bool)
    carried = {name: array[kept_V] for name, array in arrays.items()}
    carried["fields_V"] = new_fields[fields_V[kept_V]].astype(arrays["fields_V"].dtype)
    own = np.flatnonzero(carried["row_V"] >= 0)
    own = own[np.argsort(carried["row_V"][own], kind="stable")]
    rows = carried["row_V"][own].astype(np.int64)
    carried["row_V"] = carried["row_V"].copy()
    carried["row_V"][own] = len(sources) * (1 + CLASSES) + np.arange(len(own), dtype=np.int32)
    return carried, rows


def _shared_rows(sources: NDArray[np.int64], old_fields: int) -> NDArray[np.int64]:
    """For each default and class row the old one it continues, -1 for those of new fields."""
    groups = np.arange(1 + CLASSES)[:, None] * old_fields
    return np.where(sources < 0, -1, groups + sources).ravel()
