"""Exports a version as one ONNX graph, for engines that read neither our files nor Python.

Decisions: feature keys go in and probabilities come out. The index is inside the graph, because ONNX has
multiplication, shifts and exclusive or of 64-bit integers. For engines without these, codes go in and the index stays
outside. Cells are written unpacked, one per element of the narrowest type, so that a look-up is a gather. The members
of an ensemble take the same places, each from its own codewords.
docs/format.md specifies the computation.

Shapes: B rows, S slots, F fields, T codewords of all fields, D width, H shards, C cells.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING, Literal

import numpy as np

from saec.compression.index import RetrievalIndex
from saec.compression.index_layout import GOLDEN, MIXERS, SHARD_SEED
from saec.compression.places import CLUSTERS, starts
from saec.export.graph import Graph
from saec.serving.files import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto

    from saec.data.schema import NetworkLayout
    from saec.serving import Model

Inputs = Literal["keys", "codes"]


def export_onnx(model: Model, inputs: Inputs = "keys") -> ModelProto:
    """A version as ONNX; the same version gives the same graph.

    Args:
        model: the version, opened and verified.
        inputs: `keys`, uint64 [B, S], or `codes`, int64 [B, S] with -1 for padding.

    Returns:
        A checked model with one output `score`, float64 [B], and the version's id and schema in its metadata.
    """
    graph, slots = Graph(), len(model.schema.slot_fields)
    given = graph.input(inputs, np.uint64 if inputs == "keys" else np.int64, ["B", slots])
    codes_BS = _codes(graph, model, given) if inputs == "keys" else given
    scores_B = graph.op("Sigmoid", _logits(graph, model, codes_BS))
    schema = (model.folder / SCHEMA).read_text(encoding="utf-8")
    return graph.finish(scores_B, "score", np.float64, {"saec_version": model.version, "saec_schema": schema})


def _codes(graph: Graph, model: Model, keys_BS: str) -> str:
    """The code of each key in its field's codebook, -1 for padding."""
    counts_S = model.counts_F[np.array(model.schema.slot_fields)]
    default, padding = graph.constant(np.int64(0)), graph.constant(np.int64(-1))
    codes_BS = default
    if model.index.keys:
        entry_BS, known_BS = _IndexGraph(graph, model.index).found(keys_BS)
        code_BS = graph.op("Add", entry_BS, graph.constant(np.int64(1)))
        fits_BS = graph.op("Less", code_BS, graph.constant(counts_S + CLUSTERS))
        codes_BS = graph.op("Where", graph.op("And", known_BS, fits_BS), code_BS, default)
    return graph.op("Where", graph.op("Equal", keys_BS, graph.constant(np.uint64(0))), padding, codes_BS)


class _IndexGraph:
    """The keyless index as operations on uint64."""

    def __init__(self, graph: Graph, index: RetrievalIndex) -> None:
        self._graph = graph
        self._index = index

    def found(self, keys: str) -> tuple[str, str]:
        """Entries (int64) of keys, and which keys are known."""
        layout = self._index.layouts[0]
        hashed, places = self._places(keys)
        first, second, third, fourth = (self._graph.op("Gather", self._cells(), place) for place in places)
        value = self._graph.cast(self._xor(self._xor(first, second), self._xor(third, fourth)), np.uint64)
        entry = self._and(value, self._word(2**layout.code_bits - 1))
        known = self._graph.op("Equal", self._right(value, layout.code_bits), self._fingerprints(hashed))
        return self._graph.cast(entry, np.int64), known

    def _places(self, keys: str) -> tuple[str, list[str]]:
        """Hashes of keys, and the places (int64) of their four cells among all."""
        layouts = self._index.layouts
        starts_H = np.cumsum([0, *(layout.cells for layout in layouts[:-1])])
        seed, length, segments, start = self._of_shard(keys, [
            [layout.seed for layout in layouts], [layout.segment_length for layout in layouts],
            [layout.segments for layout in layouts], starts_H.tolist(),
        ])  # fmt: skip
        hashed = self._mixed(keys, seed)
        low_bits = self._graph.op("Sub", length, self._word(1))
        first = self._right(self._mul(self._right(hashed, 32), self._mul(segments, length)), 32)
        second = self._xor(self._add(first, length), self._and(self._right(hashed, 18), low_bits))
        third = self._xor(self._add(first, self._mul(length, self._word(2))), self._and(hashed, low_bits))
        turned = self._right(self._mul(hashed, self._word(GOLDEN)), 30)
        fourth = self._xor(self._add(first, self._mul(length, self._word(3))), self._and(turned, low_bits))
        places = (first, second, third, fourth)
        return hashed, [self._graph.cast(self._add(place, start), np.int64) for place in places]

    def _of_shard(self, keys: str, of_shards: list[list[int]]) -> list[str]:
        """Numbers of each key's shard, by key; plain numbers where there is one shard."""
        if len(self._index.layouts) == 1:
            return [self._word(number) for (number,) in of_shards]
        hashed = self._right(self._mixed(keys, self._word(SHARD_SEED)), 32)
        shard = self._graph.cast(self._right(self._mul(hashed, self._word(len(self._index.layouts))), 32), np.int64)
        tables = [self._graph.constant(np.array(numbers_H, np.uint64)) for numbers_H in of_shards]
        return [self._graph.op("Gather", table, shard) for table in tables]

    def _mixed(self, keys: str, seed: str) -> str:
        """The index's hash of keys."""
        hashed = self._add(keys, seed)
        for multiplier in MIXERS:
            hashed = self._mul(self._xor(hashed, self._right(hashed, 33)), self._word(multiplier))
        return self._xor(hashed, self._right(hashed, 33))

    def _fingerprints(self, hashed: str) -> str:
        bits = self._index.layouts[0].fingerprint_bits
        # A shift by all 64 bits is undefined; without fingerprints the value above the code is 0, and so is this.
        return self._right(self._mul(hashed, self._word(GOLDEN)), 64 - bits) if bits else self._word(0)

    def _cells(self) -> str:
        """The unpacked cells of all shards."""
        return self._graph.constant(self._index.unpacked())

    def _word(self, number: int) -> str:
        return self._graph.constant(np.uint64(number))

    def _add(self, left: str, right: str) -> str:
        return self._graph.op("Add", left, right)

    def _mul(self, left: str, right: str) -> str:
        return self._graph.op("Mul", left, right)

    def _xor(self, left: str, right: str) -> str:
        return self._graph.op("BitwiseXor", left, right)

    def _and(self, left: str, right: str) -> str:
        return self._graph.op("BitwiseAnd", left, right)

    def _right(self, value: str, bits: int) -> str:
        return self._graph.op("BitShift", value, self._word(bits), direction="RIGHT")


def _logits(graph: Graph, model: Model, codes_BS: str) -> str:
    """The version's logits (B,), in double precision: the weighted mean of its members'."""
    pooling, found = _Pooling(graph, model, codes_BS), []
    for member in model.members:
        network = NetworkGraph(graph, model.schema.model, member.network.parameters)
        logits_B = graph.cast(network.logits(pooling.field_vectors(member.codewords_TD)), np.float64)
        if len(model.members) > 1:
            logits_B = graph.op("Mul", logits_B, graph.constant(np.float64(member.share)))
        found.append(logits_B)
    return reduce(partial(graph.op, "Add"), found)


class _Pooling:
    """From codes to the vectors of fields, for any member's codewords."""

    def __init__(self, graph: Graph, model: Model, codes_BS: str) -> None:
        self._graph = graph
        self._slot_fields_S = np.array(model.schema.slot_fields)
        self._fields = len(model.schema.field_names)
        self._used_BS = graph.op("GreaterOrEqual", codes_BS, graph.constant(np.int64(0)))
        places_BS = graph.op("Add", codes_BS, graph.constant(starts(model.counts_F)[self._slot_fields_S]))
        # Padding takes a row of zeros after the last codeword.
        padding = graph.constant(np.int64(len(model.codewords_TD)))
        self._places_BS = graph.op("Where", self._used_BS, places_BS, padding)

    def field_vectors(self, codewords_TD: NDArray[np.float32]) -> str:
        """The vector of each field (B, F, D): the mean of its slots' codewords."""
        graph = self._graph
        vectors_TD = np.concatenate([codewords_TD, np.zeros_like(codewords_TD[:1])])
        vectors_BSD = graph.op("Gather", graph.constant(vectors_TD), self._places_BS)
        if len(self._slot_fields_S) == self._fields:
            return vectors_BSD
        slots_FS = (np.arange(self._fields)[:, None] == self._slot_fields_S).astype(np.float32)
        sums_BFD = graph.op("MatMul", graph.constant(slots_FS), vectors_BSD)
        counts_BF = graph.op("MatMul", graph.cast(self._used_BS, np.float32), graph.constant(slots_FS.T.copy()))
        counts_BF = graph.op("Max", counts_BF, graph.constant(np.float32(1)))
        return graph.op("Div", sums_BFD, graph.op("Unsqueeze", counts_BF, graph.constant(np.array([2]))))


class NetworkGraph:
    """The network as operations on float32; see `saec.model.networks`."""

    def __init__(self, graph: Graph, layout: NetworkLayout, parameters: Mapping[str, NDArray[np.float32]]) -> None:
        self._graph = graph
        self._layout = layout
        self._parameters = parameters

    def logits(self, vectors_BFD: str) -> str:
        """Logits of a click, shape (B,)."""
        op = self._graph.op
        weights = self._graph.constant(self._parameters["first_order_FD"].reshape(-1, 1))
        flat = op("Flatten", vectors_BFD)
        interaction = self._pairs(vectors_BFD) if self._layout.network == "deepfm" else self._crossed(flat)
        logits = op("Add", op("Add", op("MatMul", flat, weights), interaction), self._deep(flat))
        if self._layout.logit_cap:
            cap = self._graph.constant(np.float32(self._layout.logit_cap))
            logits = op("Mul", cap, op("Tanh", op("Div", logits, cap)))
        return op("Squeeze", op("Add", logits, self._graph.constant(self._parameters["bias"])), self._axes(1))

    def _pairs(self, vectors_BFD: str) -> str:
        op = self._graph.op
        total_BD = op("ReduceSum", vectors_BFD, self._axes(1), keepdims=0)
        squares_BD = op("ReduceSum", op("Mul", vectors_BFD, vectors_BFD), self._axes(1), keepdims=0)
        twice = op("ReduceSum", op("Sub", op("Mul", total_BD, total_BD), squares_BD), self._axes(1))
        return op("Mul", twice, self._graph.constant(np.float32(0.5)))

    def _crossed(self, flat: str) -> str:
        crossed = flat
        for layer in range(self._layout.cross_layers):
            inner = self._linear(f"interaction.down.{layer}", crossed)
            outer = self._graph.op("Mul", flat, self._linear(f"interaction.up.{layer}", inner))
            crossed = self._graph.op("Add", outer, crossed)
        return self._linear("interaction.out", crossed)

    def _deep(self, units: str) -> str:
        for layer in range(len(self._layout.hidden)):
            units = self._graph.op("Relu", self._linear(f"deep.{2 * layer}", units))
        return self._linear(f"deep.{2 * len(self._layout.hidden)}", units)

    def _linear(self, name: str, units: str) -> str:
        """A linear layer, with its bias if it has one."""
        weights = [self._parameters.get(f"{name}.{part}") for part in ("weight", "bias")]
        return self._graph.op(
            "Gemm", units, *(self._graph.constant(part) for part in weights if part is not None), transB=1
        )

    def _axes(self, axis: int) -> str:
        return self._graph.constant(np.array([axis]))
