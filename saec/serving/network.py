"""The CTR networks in numpy: what `saec.model.networks` computes, for reading only.

Decisions: everything that is linear in the field vectors (first layer of the deep part, `down` of the first cross
layer, first order) is one matrix product; the part of it that belongs to fields which all rows of a request share is
computed once for all of them. Logits are float32, as in training; their sigmoid is float64.

Shapes: B rows, F fields, D width, H units of the first deep layer, L columns of all that is linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
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

    def logits(self, vectors_BFD: Floats, shared_F: NDArray[np.bool_] | None = None) -> Floats:
        """Logits of a click, shape (B,).

        Args:
            vectors_BFD: the vectors of each row's fields.
            shared_F: which fields have the same vector in all rows; none when left out.
        """
        linear_BL = self._linear(vectors_BFD, shared_F)
        first = len(self.parameters["deep.0.bias"])
        logits_B = linear_BL[:, -1] + self._deep(linear_BL[:, :first])
        logits_B += (self._pairs(vectors_BFD) if self.layout.network == "deepfm"
                     else self._crossed(vectors_BFD.reshape(len(vectors_BFD), -1), linear_BL[:, first:-1]))
        if cap := np.float32(self.layout.logit_cap):
            logits_B = cap * np.tanh(logits_B / cap)
        return np.asarray(logits_B + self.parameters["bias"])

    @cached_property
    def _weights_FDL(self) -> Floats:
        """Weights of all that is linear: first deep layer, `down` of the first cross layer, first order."""
        parts = [self.parameters["deep.0.weight"], self.parameters["first_order_FD"].reshape(1, -1)]
        if self.layout.network == "dcnv2":
            parts.insert(1, self.parameters["interaction.down.0.weight"])
        joined = np.ascontiguousarray(np.concatenate(parts).T)
        return joined.reshape(self.fields, self.layout.width, -1)

    def _linear(self, vectors_BFD: Floats, shared_F: NDArray[np.bool_] | None) -> Floats:
        rows, columns = len(vectors_BFD), self._weights_FDL.shape[2]
        weights = self._weights_FDL.reshape(-1, columns)
        if shared_F is None:
            return vectors_BFD.reshape(rows, -1) @ weights
        own_BL = vectors_BFD[:, ~shared_F].reshape(rows, -1) @ self._weights_FDL[~shared_F].reshape(-1, columns)
        own_BL += np.where(shared_F[:, None], vectors_BFD[0], np.float32(0)).reshape(-1) @ weights
        return own_BL

    def _pairs(self, vectors_BFD: Floats) -> Floats:
        total_BD = vectors_BFD.sum(1)
        return np.asarray(np.float32(0.5) * (np.square(total_BD) - np.square(vectors_BFD).sum(1)).sum(1))

    def _crossed(self, flat: Floats, inner: Floats) -> Floats:
        """The cross layers, the first of which has its rank-deep inner part already."""
        crossed, named = flat, self.parameters
        for layer in range(self.layout.cross_layers):
            if layer:
                inner = crossed @ named[f"interaction.down.{layer}.weight"].T
            outer = inner @ named[f"interaction.up.{layer}.weight"].T
            outer += named[f"interaction.up.{layer}.bias"]
            outer *= flat
            outer += crossed
            crossed = outer
        return np.asarray(crossed @ named["interaction.out.weight"][0] + named["interaction.out.bias"])

    def _deep(self, units: Floats) -> Floats:
        """The deep part from the product of its first layer on; a row's last unit is its logit."""
        units = units + self.parameters["deep.0.bias"]
        for layer in range(1, len(self.layout.hidden) + 1):
            np.maximum(units, 0, out=units)
            units = units @ self.parameters[f"deep.{2 * layer}.weight"].T
            units += self.parameters[f"deep.{2 * layer}.bias"]
        return units[:, 0]


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
