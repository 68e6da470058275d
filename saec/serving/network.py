"""The CTR networks in numpy: computes what `saec.model.networks` computes, for scoring only.

Decisions: everything that is linear in the field vectors (first layer of the deep part, `down` of the first cross
layer, first order) is one matrix product. What fields contribute that all rows of a request share is computed once: in
the cross layers x_l = x_0 * c_l, so their part of `down` is a constant of the request and a matrix of rank times rank
for each earlier layer; of the vectors, rows need their own only. Logits are float32, as in training; their mean over
an ensemble and its sigmoid are float64.

Shapes: B rows, F fields, O fields of a row's own, D width, X numbers of some fields, H units of the first deep layer,
L columns of all that is linear, R rank of a cross layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
class _Weights:
    """The weights of some fields' numbers."""

    linear_XL: Floats
    ups: tuple[Floats, ...]
    """[R, X] of each cross layer."""
    biases: tuple[Floats, ...]
    """[X] of each cross layer."""
    downs: tuple[Floats, ...]
    """[X, R] of each cross layer from the second on, then [X, 1] of the cross layers' output."""


@dataclass(frozen=True)
class Shared:
    """What the fields that all rows share come to, and the weights of the others."""

    own: _Weights
    linear_L: Floats
    """Their part of all that is linear, biases included."""
    downs: tuple[Floats, ...]
    """Their constant part of each of `_Weights.downs`."""
    between: tuple[tuple[Floats, ...], ...]
    """For each of `_Weights.downs`, what each earlier cross layer's inner part is multiplied with; empty for none."""
    total_D: Floats
    """Sum of their vectors, for the factorisation machine."""
    squares: np.float32
    """Sum of all their numbers' squares."""


@dataclass(frozen=True)
class Network:
    """The parameters of a network, ready to score."""

    layout: NetworkLayout
    fields: int
    parameters: Mapping[str, NDArray[Any]]
    """As `parameter_shapes` wants them."""

    def logits(self, vectors_BOD: Floats, shared: Shared | None = None) -> Floats:
        """Logits of a click, shape (B,).

        Args:
            vectors_BOD: the vectors of each row's own fields; of all fields when none is shared.
            shared: the other fields, from `share`.
        """
        shared = shared or self._nothing
        own_BX = vectors_BOD.reshape(len(vectors_BOD), -1)
        linear_BL = own_BX @ shared.own.linear_XL
        linear_BL += shared.linear_L
        first = len(self.parameters["deep.0.bias"])
        logits_B = linear_BL[:, -1] + self._deep(linear_BL[:, :first])
        logits_B += (
            self._pairs(vectors_BOD, shared)
            if self.layout.network == "deepfm"
            else self._crossed(own_BX, linear_BL[:, first:-1], shared)
        )
        if cap := np.float32(self.layout.logit_cap):
            logits_B = cap * np.tanh(logits_B / cap)
        return np.asarray(logits_B + self.parameters["bias"])

    def share(self, vectors_SD: Floats, shared_F: NDArray[np.bool_]) -> Shared:
        """Compute once what some fields come to that are the same in all rows.

        Args:
            vectors_SD: their vectors.
            shared_F: which fields they are.
        """
        theirs, own = self._split(shared_F.tobytes())
        shared_X, factor_X = vectors_SD.reshape(-1), np.ones(vectors_SD.size, np.float32)
        linear_L = shared_X @ theirs.linear_XL
        linear_L[: len(self.parameters["deep.0.bias"])] += self.parameters["deep.0.bias"]
        downs, between = [], []
        for layer, down_XR in enumerate(theirs.downs):
            factor_X = factor_X + theirs.biases[layer]
            down_XR = down_XR * shared_X[:, None]  # noqa: PLW2901 - from here on with the vectors in it
            downs.append(factor_X @ down_XR)
            between.append(tuple(up_RX @ down_XR for up_RX in theirs.ups[: layer + 1]) if shared_X.size else ())
        squares = np.float32(np.square(vectors_SD).sum())
        return Shared(own, linear_L, tuple(downs), tuple(between), vectors_SD.sum(0), squares)

    @cached_property
    def _nothing(self) -> Shared:
        """No field is shared."""
        return self.share(np.zeros((0, self.layout.width), np.float32), np.zeros(self.fields, bool))

    @cached_property
    def _split(self) -> Callable[[bytes], tuple[_Weights, _Weights]]:
        """What gives the weights of the fields that are shared, as a mask's bytes, and of the others.

        It does not hold the network, so that one that nobody uses any more goes at once, and the file it maps with it.
        """
        layout, parameters = self.layout, self.parameters

        def split(mask: bytes) -> tuple[_Weights, _Weights]:
            shared_X = np.repeat(np.frombuffer(mask, bool), layout.width)
            return _weights(layout, parameters, shared_X), _weights(layout, parameters, ~shared_X)

        return lru_cache(maxsize=8)(split)

    def _pairs(self, vectors_BOD: Floats, shared: Shared) -> Floats:
        total_BD = vectors_BOD.sum(1) + shared.total_D
        squares_B = np.square(vectors_BOD).sum((1, 2)) + shared.squares
        return np.asarray(np.float32(0.5) * (np.square(total_BD).sum(1) - squares_B))

    def _crossed(self, own_BX: Floats, inner_BR: Floats, shared: Shared) -> Floats:
        """The cross layers' output, from the inner part of the first one on."""
        own, inners = shared.own, [inner_BR]
        factor_BX: NDArray[Any] = np.ones((1, own_BX.shape[1]), np.float32)
        for layer, down_XR in enumerate(own.downs):
            factor_BX = factor_BX + own.biases[layer] + inners[-1] @ own.ups[layer]
            inner_BR = (own_BX * factor_BX) @ down_XR
            inner_BR += shared.downs[layer]
            for earlier_BR, matrix_RR in zip(inners, shared.between[layer], strict=False):
                inner_BR += earlier_BR @ matrix_RR
            inners.append(inner_BR)
        return np.asarray(inners[-1][:, 0] + self.parameters["interaction.out.bias"])

    def _deep(self, units: Floats) -> Floats:
        """The deep part from the product of its first layer on; a row's last unit is its logit."""
        for layer in range(1, len(self.layout.hidden) + 1):
            units = np.maximum(units, 0)
            units = units @ self.parameters[f"deep.{2 * layer}.weight"].T
            units += self.parameters[f"deep.{2 * layer}.bias"]
        return units[:, 0]


def _weights(layout: NetworkLayout, named: Mapping[str, NDArray[Any]], chosen_X: NDArray[np.bool_]) -> _Weights:
    """The weights of some of all numbers of a row."""
    linear = [named["deep.0.weight"], named["first_order_FD"].reshape(1, -1)]
    layers = range(layout.cross_layers) if layout.network == "dcnv2" else ()
    downs = [named[f"interaction.down.{layer}.weight"] for layer in layers]
    if downs:
        linear.insert(1, downs.pop(0))
        downs.append(named["interaction.out.weight"])
    return _Weights(
        np.ascontiguousarray(np.concatenate(linear)[:, chosen_X].T),
        tuple(np.ascontiguousarray(named[f"interaction.up.{layer}.weight"][chosen_X].T) for layer in layers),
        tuple(named[f"interaction.up.{layer}.bias"][chosen_X] for layer in layers),
        tuple(np.ascontiguousarray(down[:, chosen_X].T) for down in downs),
    )


def sigmoid(logits_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits, without overflow for any of them."""
    small_B = np.exp(-np.abs(logits_B))
    return np.asarray(np.where(logits_B >= 0, 1.0, small_B) / (1.0 + small_B))
