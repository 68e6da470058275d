"""Reads the index and the codebooks that replace an embedding table, of a version or of a compressed table.

Shapes: F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saec.compression.index import RetrievalIndex
from saec.compression.places import CLUSTERS, DEFAULT
from saec.compression.quantised import restored
from saec.data.hashing import Keys
from saec.errors import IntegrityError
from saec.serving.files import tensors
from saec.store.objects import Buffer


def read_index(data: Buffer, origin: Path) -> RetrievalIndex:
    """The keyless index of a file.

    Raises:
        IntegrityError: naming the file, when it holds none.
    """
    arrays = tensors(data, origin)
    try:
        return RetrievalIndex.from_tensors(arrays)
    except IntegrityError as error:
        raise IntegrityError(f"{origin}: {error}") from None


def read_codebooks(
    data: Buffer, origin: Path, fields: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Clusters of each field, and the codewords of all as numbers.

    Args:
        data: the file.
        origin: its name, for errors.
        fields: how many fields it must be of.
        width: numbers of a codeword.

    Raises:
        IntegrityError: naming the file, when it does not hold such codebooks.
    """
    arrays = tensors(data, origin)
    try:
        counts_F, codewords_TD = arrays["counts_F"].astype(np.int64), restored(arrays, width)
    except (KeyError, ValueError, IndexError) as error:
        raise IntegrityError(f"{origin} holds no codebooks: {error}; run saec verify {origin.parent.name}") from None
    wanted = (int((counts_F + CLUSTERS).sum()), width)
    if counts_F.shape != (fields,) or codewords_TD.shape != wanted or not np.isfinite(codewords_TD).all():
        raise IntegrityError(
            f"{origin} holds codewords {codewords_TD.shape} for {counts_F.shape} fields, wanted {wanted}, all finite, "
            f"for the {fields} fields of the schema; run saec verify {origin.parent.name}"
        )
    return counts_F, codewords_TD


def codes_of(
    index: RetrievalIndex, counts_F: NDArray[np.int64], keys: Keys, fields: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The code of each feature in its field's codebook, 0 for what the index does not know.

    Args:
        index: holds codes less one.
        counts_F: clusters of each field; a false accept whose code lies beyond them counts as unknown.
        keys: feature keys of any shape.
        fields: their fields, of a shape that fits.
    """
    codes = index.lookup(keys).astype(np.int64) + 1
    return np.where(codes < counts_F[fields] + CLUSTERS, codes, DEFAULT)
