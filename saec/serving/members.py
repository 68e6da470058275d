"""Reads the models of a version: one, or two over the same codes, an *ensemble*.

    codebooks.safetensors, network.safetensors                    the retrained model, in every version
    original_codebooks.safetensors, original_network.safetensors  the quantised original, in an ensemble

Decisions: one look-up serves both, since both codebooks are of the same clusters; the second model costs a gather and a
network. Logits are averaged, not probabilities: each network's cap and bias apply to its own. The share lies beside the
vectors that it weighs.

Shapes: B rows, S slots, F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saec.data.schema import Schema
from saec.errors import IntegrityError
from saec.serving.codebooks import read_codebooks
from saec.serving.files import CODEBOOKS, NETWORK, ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK, tensors
from saec.serving.network import Floats, Network, parameter_shapes
from saec.serving.rounding import restored
from saec.store.objects import Buffer


@dataclass(frozen=True)
class Member:
    """One model of a version: what it makes of codes."""

    codewords_TD: Floats
    network: Network
    share: float = 1.0
    """What its logit counts for in the version's."""

    def field_vectors(self, places_BS: NDArray[np.int64], fields_S: NDArray[np.int64]) -> Floats:
        """The vectors of some fields (B, F, D): a codeword, or of a list the mean of its values' codewords.

        Args:
            places_BS: codewords in the slots of these fields, -1 for padding.
            fields_S: the field of each slot.
        """
        vectors_BSD = self._vectors_TD.take(places_BS, axis=0, mode="wrap")
        first_F = np.flatnonzero(np.diff(fields_S, prepend=-1))
        if len(first_F) == len(fields_S):
            return vectors_BSD
        used_BF = np.add.reduceat(places_BS >= 0, first_F, axis=1, dtype=np.float32)
        sums_BFD: Floats = np.add.reduceat(vectors_BSD, first_F, axis=1)
        sums_BFD /= np.maximum(used_BF, np.float32(1))[:, :, None]
        return sums_BFD

    @cached_property
    def _vectors_TD(self) -> Floats:
        """The codewords and a row of zeros at the end, which is what padding takes, since its place is -1."""
        return np.concatenate([self.codewords_TD, np.zeros_like(self.codewords_TD[:1])])


def read_members(
    folder: Path, files: Mapping[str, Buffer], schema: Schema
) -> tuple[NDArray[np.int64], tuple[Member, ...]]:
    """Clusters of each field, and the models of a version, the retrained one first.

    Raises:
        IntegrityError: naming the file that does not hold what the schema and the other files want.
    """
    counts_F, codewords_TD = _codebooks(folder, files, CODEBOOKS, schema)
    network = _network(folder, files, NETWORK, schema)
    given = [name for name in (ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK) if name in files]
    if not given:
        return counts_F, (Member(codewords_TD, network),)
    if len(given) == 1:
        (missing,) = {ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK} - {*given}
        raise IntegrityError(f"{folder / missing} is missing beside {given[0]}; run saec verify {folder.name}")
    their_counts_F, their_codewords_TD = _codebooks(folder, files, ORIGINAL_CODEBOOKS, schema)
    if not np.array_equal(their_counts_F, counts_F):
        raise IntegrityError(
            f"{folder / ORIGINAL_CODEBOOKS} holds other numbers of clusters than {CODEBOOKS}; run saec verify "
            f"{folder.name}"
        )
    share = read_share(files[ORIGINAL_CODEBOOKS], folder / ORIGINAL_CODEBOOKS)
    original = Member(their_codewords_TD, _network(folder, files, ORIGINAL_NETWORK, schema), share)
    return counts_F, (Member(codewords_TD, network, 1.0 - share), original)


def read_share(data: Buffer, origin: Path) -> float:
    """What the quantised original's logit counts for, between 0 and 1.

    Args:
        data: the file of its codebooks.
        origin: its name, for errors.

    Raises:
        IntegrityError: naming the file, when it holds no such share.
    """
    share = tensors(data, origin).get("share", np.zeros(0, np.float32))
    if share.dtype != np.float32 or share.shape not in ((), (1,)) or not 0.0 < share.item() < 1.0:
        raise IntegrityError(
            f"{origin} holds no share between 0 and 1 (float32), but {share!r:.100}; run saec verify "
            f"{origin.parent.name}"
        )
    return float(share.item())


def _codebooks(
    folder: Path, files: Mapping[str, Buffer], name: str, schema: Schema
) -> tuple[NDArray[np.int64], Floats]:
    return read_codebooks(files[name], folder / name, len(schema.field_names), schema.model.width)


def _network(folder: Path, files: Mapping[str, Buffer], name: str, schema: Schema) -> Network:
    arrays, fields = tensors(files[name], folder / name), len(schema.field_names)
    try:
        parameters = restored(arrays, parameter_shapes(schema.model, fields))
    except ValueError as error:
        raise IntegrityError(
            f"{folder / name} {error}; it was written with another model section of the configuration, or "
            f"altered: run saec verify {folder.name}"
        ) from None
    return Network(schema.model, fields, parameters)
