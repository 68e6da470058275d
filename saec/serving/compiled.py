"""Scores rows in compiled code: prepares a version for `kernel.c` and calls it with numpy's memory.

Decisions: everything that is linear in a codeword is computed here, once and in double precision, as one row of a table
for each codeword; the first layers of a request's row are then sums of rows of that table. If the table would take too
much memory, numpy scores. An ensemble's members have a table each, and are as one version in all else: of the same
sizes, over the same codes. Some weights depend on which fields all rows of a request share; they are remembered for a
few sets of fields. Given enough rows, the cross layers then take only the vectors of the fields that are not shared
(`saec.serving.network`). The kernel allocates nothing: keys, scores and working memory are one array of numpy's.

Shapes: B rows, F fields (crosses among them), S slots, T codewords, D width, P numbers of a row of the table, X numbers
of some fields, R rank, H units.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.compression.index import RetrievalIndex
from saec.compression.places import CLUSTERS, starts
from saec.data.features import Column
from saec.data.hashing import Keys
from saec.data.schema import Schema
from saec.serving.compiled_keys import KeyEncoder
from saec.serving.kernel import Library, ModelStruct, PlanStruct
from saec.serving.members import Member
from saec.serving.network import Network

MOST_TABLE_BYTES = 1 << 28
"""Most bytes that the tables of products of all codewords may take."""
_BLOCK = 48
"""Rows that the kernel takes through the network together."""
_KEPT = 8
"""Plans that are remembered; each holds its own copy of the cross layers' weights."""
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Plan:
    """The cross layers' weights, as the kernel wants them, when they take a certain set of fields row by row."""

    structs: ctypes.Array[PlanStruct]
    """One a member."""
    kept: tuple[Any, ...]
    """The memory that `structs` point to."""
    fixed: int
    """Numbers of working memory that are needed for any number of rows; `a_row` more are needed for each row."""
    a_row: int
    worth: float
    """Number of rows from which on this plan is less work than taking all fields row by row."""


class Compiled:
    """A version's compiled scoring. It returns None for inputs that it does not support, and numpy scores them."""

    def __init__(
        self,
        library: Library,
        schema: Schema,
        index: RetrievalIndex,
        counts_F: NDArray[np.int64],
        members: Sequence[Member],
    ) -> None:
        self.name = library.name
        self.encoder = KeyEncoder(library, schema)
        self._functions, self._slots = library.functions, len(schema.slot_fields)
        found = [_model(library, schema, index, counts_F, member) for member in members]
        self._kept, self._structs = found, (ModelStruct * len(found))(*(struct for _, struct in found))
        self._plan = _plans(library, self._structs, [member.network for member in members])
        self._all = np.ones(len(counts_F), bool).tobytes()

    def score(self, columns: Mapping[str, Column], times_B: NDArray[np.int64], rows: int) -> Doubles | None:
        """Scores of B rows from their columns, each of B rows or of one."""
        request = self.encoder.request(columns, times_B, rows) if rows else None
        if request is None:
            return None
        buffer, sharing = request
        if rows > 1 and not sharing.own_slots:
            found = self.score(columns, times_B, 1)
            return None if found is None else np.repeat(found, rows)
        plan = self._plan(self._all)
        if sharing.shared_slots and rows >= (other := self._plan(sharing.own_bytes)).worth:
            plan = other
        count = rows * sharing.own_slots + sharing.shared_slots
        memory, place = _memory(plan, rows, count)
        if self.encoder.keys(buffer, sharing, rows, place + 8 * rows, count):
            return None
        return self._scores(plan, memory, place, place + 8 * rows, count, sharing.own_bytes, rows)

    def score_keys(self, keys_BS: Keys) -> Doubles | None:
        """Scores of rows of feature keys."""
        if not len(keys_BS) or keys_BS.shape != (len(keys_BS), self._slots):
            return None
        keys_BS, plan = np.ascontiguousarray(keys_BS, np.uint64), self._plan(self._all)
        memory, place = _memory(plan, len(keys_BS), 0)
        return self._scores(plan, memory, place, keys_BS.ctypes.data, keys_BS.size, None, len(keys_BS))

    def _scores(
        self, plan: _Plan, memory: Doubles, place: int, keys: int, count: int, own: bytes | None, rows: int
    ) -> Doubles | None:
        """Scores of the keys at address `keys`; scores and working memory are in `memory`, which begins at `place`."""
        scratch = len(memory) - _room(plan, rows)
        refused = self._functions.saec_score(
            self._structs,
            plan.structs,
            len(self._structs),
            keys,
            count,
            own,
            rows,
            place + 8 * scratch,
            2 * _room(plan, rows),
            place,
        )
        return None if refused else memory[:rows].copy()


def takes(library: Library, schema: Schema, members: Sequence[Member]) -> bool:
    """Whether the tables of a version's members are small enough for compiled scoring."""
    rows = sum(len(member.codewords_TD) + 1 for member in members)
    return 4 * rows * _Row.of(library, schema).size <= MOST_TABLE_BYTES


def _room(plan: _Plan, rows: int) -> int:
    """Working memory for so many rows, in doubles."""
    return (plan.fixed + plan.a_row * min(rows, _BLOCK) + 1) // 2


def _memory(plan: _Plan, rows: int, keys: int) -> tuple[Doubles, int]:
    """Memory for scores, keys and work, and its address."""
    memory = np.empty(rows + keys + _room(plan, rows))
    return memory, memory.__array_interface__["data"][0]


@dataclass(frozen=True)
class _Row:
    """Where the parts of a row of the table lie; the kernel computes the same places."""

    panel: int
    deep: int
    """Units of the first deep layer, padded; 0 where there is no hidden layer."""
    rank: int
    linear: int
    size: int

    @classmethod
    def of(cls, library: Library, schema: Schema) -> _Row:
        layout, panel = schema.model, 2 * library.lanes
        deep = _padded(layout.hidden[0], panel) if layout.hidden else 0
        layers, rank = _crossing(schema)
        linear = deep + 2 * layers * _padded(rank, panel)
        return cls(panel, deep, _padded(rank, panel), linear, _padded(linear + 1 + layout.width, panel))


def _crossing(schema: Schema) -> tuple[int, int]:
    """Cross layers and their rank."""
    layout = schema.model
    return (layout.cross_layers, layout.cross_rank) if layout.network == "dcnv2" else (0, 0)


def _padded(count: int, to: int) -> int:
    return -(-count // to) * to


def _packed(weights_KN: NDArray[Any], panel: int) -> NDArray[np.float32]:
    """Weights in panels of so many columns, [panels, K, panel]."""
    depth, columns = weights_KN.shape
    padded = np.zeros((depth, _padded(columns, panel)), np.float32)
    padded[:, :columns] = weights_KN
    return np.ascontiguousarray(padded.reshape(depth, padded.shape[1] // panel, panel).transpose(1, 0, 2))


def _addresses(arrays: Sequence[NDArray[Any]]) -> NDArray[np.uintp]:
    """Addresses of some arrays; one address of 0 if there are none, so that there is something to point to."""
    return np.array([array.ctypes.data for array in arrays] or [0], np.uintp)


def _model(
    library: Library,
    schema: Schema,
    index: RetrievalIndex,
    counts_F: NDArray[np.int64],
    member: Member,
) -> tuple[tuple[Any, ...], ModelStruct]:
    """A member as the kernel's `Model`, after the memory that it points to."""
    row, layout, named = _Row.of(library, schema), schema.model, member.network.parameters
    layers, rank = _crossing(schema)
    slots_F = np.bincount(schema.slot_fields).astype(np.int64)
    table_TP, start_P = _table(row, member.network, slots_F, counts_F, member.codewords_TD)
    cells_H = np.array([shard.cells for shard in index.layouts], np.uint64)
    later = range(1, len(layout.hidden))
    arrays: dict[str, NDArray[Any]] = {
        "field_slots": slots_F,
        "counts": np.ascontiguousarray(counts_F, np.int64),
        "starts": starts(counts_F),
        "cells": index.words,
        "layouts": np.array([astuple(shard) for shard in index.layouts], np.uint64),
        "shard_starts": np.cumsum(cells_H, dtype=np.uint64) - cells_H,
        "table": table_TP,
        "start": start_P,
        "units": np.array([*layout.hidden, 0], np.int64),
        "last": np.ascontiguousarray(named[f"deep.{2 * len(layout.hidden)}.weight"], np.float32),
    }
    weights = [_packed(named[f"deep.{2 * layer}.weight"].T, row.panel) for layer in later]
    biases = [_packed(named[f"deep.{2 * layer}.bias"][None], row.panel) for layer in later]
    arrays |= {"weights": _addresses(weights), "biases": _addresses(biases)}
    numbers = {
        "isa": library.lanes,
        "fields": len(counts_F),
        "slots": len(schema.slot_fields),
        "width": layout.width,
        "deep": layout.hidden[0] if layout.hidden else 0,
        "layers": layers,
        "rank": rank,
        "hidden": len(layout.hidden),
        "codewords": len(member.codewords_TD),
        "row": row.size,
        "words": len(index.words),
        "shards": len(index.layouts),
        "pairs": layout.network == "deepfm",
    }
    struct = ModelStruct(
        **numbers,
        **{name: array.ctypes.data for name, array in arrays.items()},
        cap=layout.logit_cap,
        bias=float(named["bias"]),
        share=member.share,
    )
    return (arrays, weights, biases), struct


def _table(
    row: _Row,
    network: Network,
    slots_F: NDArray[np.int64],
    counts_F: NDArray[np.int64],
    codewords_TD: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The table of all that is linear in the codewords, [T+1, P] with zeros last; and where a row's sum starts, [P].

    A row of the table has, in this order: the first deep layer, the inner part of each cross layer, the factors of
    these inner parts in the output, what is added to the logit as it is, and the codeword.
    """
    layout, named, width = network.layout, network.parameters, network.layout.width
    table_TP, start_P = np.zeros((len(codewords_TD) + 1, row.size), np.float32), np.zeros(row.size, np.float32)
    table_TP[:-1, row.linear + 1 : row.linear + 1 + width] = codewords_TD
    layers = layout.cross_layers if layout.network == "dcnv2" else 0
    last = named[f"deep.{2 * len(layout.hidden)}.bias"][0]
    start_P[row.linear] = last + (named["interaction.out.bias"][0] if layers else 0)
    if layout.hidden:
        start_P[: layout.hidden[0]] = named["deep.0.bias"]
    begin_F = starts(counts_F)
    with np.errstate(over="ignore", invalid="ignore"):  # only for weights that no training gives; the scores show it
        for number, (begin, count) in enumerate(zip(begin_F, counts_F + CLUSTERS, strict=True)):
            part, own = slice(begin, begin + count), slice(number * width, (number + 1) * width)
            x_KD = codewords_TD[part].astype(np.float64)
            linear_K = x_KD @ named["first_order_FD"][number]
            if layout.hidden:
                table_TP[part, : layout.hidden[0]] = x_KD @ named["deep.0.weight"][:, own].T
            else:
                linear_K += x_KD @ named["deep.0.weight"][0, own]
            factor_D = np.ones(width)
            for layer in range(layers):
                inner, outer = (
                    slice(at, at + layout.cross_rank)
                    for at in (row.deep + layer * row.rank, row.deep + (layers + layer) * row.rank)
                )
                out_D = named["interaction.out.weight"][0, own]
                table_TP[part, inner] = (x_KD * factor_D) @ named[f"interaction.down.{layer}.weight"][:, own].T
                table_TP[part, outer] = (x_KD * out_D) @ named[f"interaction.up.{layer}.weight"][own]
                factor_D = factor_D + named[f"interaction.up.{layer}.bias"][own]
            if layers:
                linear_K += (x_KD * factor_D) @ named["interaction.out.weight"][0, own]
            elif slots_F[number] == 1:  # the mean of a list is squared by the kernel
                linear_K -= 0.5 * np.square(x_KD).sum(1)
            table_TP[part, row.linear] = linear_K
    return table_TP, start_P


def _plans(
    library: Library, models: ctypes.Array[ModelStruct], networks: Sequence[Network]
) -> Callable[[bytes], _Plan]:
    """Return a function that gives the plan for the fields taken row by row; these are named by a mask's bytes."""
    layout, panel = networks[0].layout, 2 * library.lanes
    layers, rank = (layout.cross_layers, layout.cross_rank) if layout.network == "dcnv2" else (0, 0)

    def plan(mask: bytes) -> _Plan:
        own_F = np.frombuffer(mask, bool)
        own_X = np.repeat(own_F, layout.width)
        own, shared = int(own_X.sum()), int((~own_X).sum())
        weights = [_crossing_weights(network, layers, own_X, panel) for network in networks]
        pointers = [[_addresses(some) for some in of_member] for of_member in weights]
        structs = (PlanStruct * len(networks))(
            *(
                PlanStruct(own_F.ctypes.data, own, shared, *(array.ctypes.data for array in of_member))
                for of_member in pointers
            )
        )
        fixed, one = (library.functions.saec_scratch(models, structs, rows) for rows in (0, 1))
        pairs = layers * (layers - 1) // 2
        spared = 2 * (layers - 1) * rank * shared - pairs * rank * rank
        worth = pairs * rank * rank * shared / spared if spared > 0 else np.inf
        return _Plan(structs, (own_F, weights, pointers), fixed, one - fixed, worth)

    return lru_cache(maxsize=_KEPT)(plan)


def _crossing_weights(
    network: Network, layers: int, own_X: NDArray[np.bool_], panel: int
) -> tuple[list[NDArray[np.float32]], ...]:
    """A member's weights in a plan, in the order of `Plan`: of the numbers taken row by row, and of the shared ones."""
    ups = [network.parameters[f"interaction.up.{layer}.weight"].T for layer in range(layers - 1)]
    downs = [network.parameters[f"interaction.down.{layer}.weight"].T for layer in range(1, layers)]
    return (
        [_packed(up_RX[:, own_X], panel) for up_RX in ups],
        [_packed(down_XR[own_X], panel) for down_XR in downs],
        [np.ascontiguousarray(up_RX[:, ~own_X], np.float32) for up_RX in ups],
        [_packed(down_XR[~own_X], panel) for down_XR in downs],
    )
