"""The CTR networks in numpy: what `saec.model.networks` computes, for reading only.

Decisions: everything that is linear in the field vectors (first hidden layer, `down` of the first cross layer, first
order, the direct way through the cross layers' output) is one matrix product. Of that product, the part of the fields
that all rows of a request share is computed once. Logits are float32, as in training; their sigmoid is float64.

Shapes: B rows, F fields, D width, H units of the first hidden layer, R rank, W columns of the joint product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.data.schema import NetworkLayout

Floats = NDArray[np.float32]


def parameter_shapes(layout: NetworkLayout, fields: int) -> dict[str, tuple[int, ...]]:
    """The parameters that a layout wants, by name, with their shapes."""
    units = fields * layout.width
    shapes: dict[str, tuple[int, ...]] = {"first_order_FD": (fields, layout.width), "bias": ()}
    if layout.network == "dcnv2":
        for layer in range(layout.cross_layers):
            shapes[f"interaction.down.{layer}.weight"] = (layout.cross_rank, units)
            shapes[f"interaction.up.{layer}.weight"] = (units, layout.cross_rank)
            shapes[f"interaction.up.{layer}.bias"] = (units,)
        shapes |= {"interaction.out.weight": (1, units), "interaction.out.bias": (1,)}
    for layer, count in enumerate((*layout.hidden, 1)):
        shapes |= {f"deep.{2 * layer}.weight": (count, units), f"deep.{2 * layer}.bias": (count,)}
        units = count
    return shapes


@dataclass(frozen=True)
class Network:
    """The parameters of a network, ready to score."""

    layout: NetworkLayout
    fields: int
    parameters: Mapping[str, NDArray[Any]]
    """As `parameter_shapes` wants them."""

    def logits(self, vectors_BFD: Floats) -> Floats:
        """Logits of a click, shape (B,)."""
        flat = vectors_BFD.reshape(len(vectors_BFD), -1)
        logits_B = flat @ self.parameters["first_order_FD"].reshape(-1)
        logits_B += self._pairs(vectors_BFD) if self.layout.network == "deepfm" else self._crossed(flat)
        logits_B += self._deep(flat)
        if cap := np.float32(self.layout.logit_cap):
            logits_B = cap * np.tanh(logits_B / cap)
        return np.asarray(logits_B + self.parameters["bias"])

    def _pairs(self, vectors_BFD: Floats) -> Floats:
        total_BD = vectors_BFD.sum(1)
        return np.asarray(np.float32(0.5) * (np.square(total_BD) - np.square(vectors_BFD).sum(1)).sum(1))

    def _crossed(self, flat: Floats) -> Floats:
        crossed, named = flat, self.parameters
        for layer in range(self.layout.cross_layers):
            inner = crossed @ named[f"interaction.down.{layer}.weight"].T
            outer = inner @ named[f"interaction.up.{layer}.weight"].T
            outer += named[f"interaction.up.{layer}.bias"]
            outer *= flat
            outer += crossed
            crossed = outer
        return np.asarray(crossed @ named["interaction.out.weight"][0] + named["interaction.out.bias"])

    def _deep(self, units: Floats) -> Floats:
        for layer in range(len(self.layout.hidden)):
            units = units @ self.parameters[f"deep.{2 * layer}.weight"].T
            units += self.parameters[f"deep.{2 * layer}.bias"]
            np.maximum(units, 0, out=units)
        last = 2 * len(self.layout.hidden)
        return np.asarray(units @ self.parameters[f"deep.{last}.weight"][0] + self.parameters[f"deep.{last}.bias"])


def sigmoid(logits_B: Floats) -> NDArray[np.float64]:
    """Probabilities of logits, without overflow for any of them."""
    wide_B = logits_B.astype(np.float64)
    small_B = np.exp(-np.abs(wide_B))
    return np.asarray(np.where(wide_B >= 0, 1.0, small_B) / (1.0 + small_B))


def mismatches(arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """What keeps arrays from being the parameters wanted, in words."""
    for name in sorted(arrays.keys() - wanted.keys()):
        yield f"has network parameter {name[:64]!r} that the network lacks"
    for name, shape in wanted.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            has = "nothing" if found is None else f"{found.dtype} of shape {found.shape}"
            yield f"has {has} for network parameter {name!r}, wanted float32, wanted shape {shape}"
        elif not np.isfinite(found).all():
            yield f"has network parameter {name!r} that is not finite"
