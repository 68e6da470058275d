"""Runs an original and what is made from it: its table compressed every hour, or a Saec beside it.

    original            fp32 rows with 8-byte keys; all sizes are relative to it
    int8                int8 rows, found through a keyless index, which is smaller than keys
    product-quantised   each field's admitted rows by faiss' product quantiser, all rows alike, codes in a keyless index
    filtered-after      int8 rows for the frequent features only, chosen at the hour's end
    saec                retrained beside an original from hour to hour, scored from the files it would publish

Shapes: B rows, U distinct features of the hour, V rows of the table, N features of a head, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.compression import stored as how
from benchmarks.compression.beside import SaecBeside
from benchmarks.compression.stored import HeadIndex, row_bytes, timed
from benchmarks.compression.stretch import HourRows, Served
from saec.compression.dial import original_bytes
from saec.config import Config
from saec.data.hour_features import HourFeatures
from saec.hours import Hour
from saec.train.original import AtCut, Original, PreparedRows

FITTED_POINTS, FIT_ROUNDS = 128, 15
"""Rows a codeword, and rounds, with which the product quantiser is fitted; more bring no visible gain."""


@dataclass(frozen=True)
class Quantiser:
    """A setting of product quantisation."""

    parts: int
    """Parts that a vector is cut into; each has a code of its own."""
    code_bits: int
    fingerprint_bits: int


Storing: TypeAlias = "Callable[[str, StoredTable], Served]"
"""Serves under a name what the original's table is, stored in some way."""


class FullTable:
    """The original and what is made from it."""

    def __init__(
        self,
        config: Config,
        *,
        original: bool = False,
        stored: dict[str, Storing] | None = None,
        saec: dict[str, Config] | None = None,
    ) -> None:
        """Contestants: the original itself, its table as stored in some ways, settings of Saec, each under a name."""
        self.original = Original(config)
        self.takes_part = original
        self.stored = stored or {}
        self.saec = {name: SaecBeside(variant) for name, variant in (saec or {}).items()}
        self.seconds = dict.fromkeys(["original", *self.saec], 0.0)
        """CPU seconds that the original took to learn, and each Saec beside it."""
        self._prepared: PreparedRows | None = None
        """An hour that was scored and not learnt yet: admitted a second time, its new features would look known."""

    def learn(self, given: HourRows) -> None:
        """One hour."""
        (at_cut, scores_B), seconds = timed(lambda: self._learn_original(given))
        self.seconds["original"] += seconds
        for name, variant in self.saec.items():
            _, seconds = timed(partial(variant.learn, self.original, at_cut, scores_B, given))
            self.seconds[name] += seconds

    def _learn_original(self, given: HourRows) -> tuple[AtCut, NDArray[np.float64]]:
        prepared = self._prepare(given)
        self._prepared = None
        scores_B = self.original.score(prepared)
        return self.original.learn(given.hour, given.rows, prepared, given.cut), scores_B

    def _prepare(self, given: HourRows) -> PreparedRows:
        """As the pipeline does, once an hour."""
        if self._prepared is None:
            self._prepared = self.original.prepare(given.hour, given.rows)
        return self._prepared

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score every contestant, as it is after the hour before, on the whole hour."""
        original, rows = self.original, len(self.original.table)
        table = StoredTable(original, given)
        for name, storing in self.stored.items():
            yield storing(name, table)
        for name, variant in self.saec.items():
            yield variant.serve(name, rows, given.rows.keys_BS)
        if self.takes_part:
            # Last, as it admits the hour's features: those seen often enough in earlier hours have a row from now on.
            fp32 = original_bytes(original.config, rows)
            yield Served("original", *_timed(lambda: original.score(self._prepare(given)), fp32, 1.0))


def _timed(
    score: Callable[[], NDArray[np.float64]], size: float, ratio: float
) -> tuple[NDArray[np.float64], float, float, float, float]:
    scores_B, seconds = timed(score)
    return scores_B, size, ratio, 0.0, seconds


class StoredTable:
    """The original's table as others would serve it."""

    def __init__(self, original: Original, given: HourRows) -> None:
        """The table before an hour."""
        self.original, self.hour = original, given.hour
        self.features = HourFeatures.of(given.rows.keys_BS, np.array(original.config.slot_fields, np.int64))
        self.rows_U = original.vocabulary.rows_of(self.features)

    @cached_property
    def vectors_VD(self) -> NDArray[np.float32]:
        """`vectors_at` the hour."""
        return vectors_at(self.original, self.hour)

    def index(self, threshold: float, fingerprint_bits: int) -> HeadIndex:
        """A keyless index of the features that own a row and are at least so frequent."""
        vocabulary = self.original.vocabulary
        head_V = (vocabulary.row_V >= 0) & (vocabulary.frequency(self.hour) >= threshold)
        keys_N, rows_N = vocabulary.keys_V[head_V], vocabulary.row_V[head_V].astype(np.int64)
        return HeadIndex.build(keys_N, rows_N, fingerprint_bits)

    def score(
        self,
        vectors_VD: NDArray[np.float32],
        index: HeadIndex,
        stored: Callable[[NDArray[np.float32]], NDArray[np.float32]] = np.asarray,
    ) -> NDArray[np.float64]:
        """Score the hour with these vectors, as they come back from how they are stored, found by an index."""
        served_U = index.serve(self.features.keys_U, self.rows_U, self.features.fields_U)
        return self.score_rows(stored(vectors_VD[served_U]))

    def score_rows(self, vectors_UD: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score the hour with a vector for each of its distinct features."""
        places_BS = torch.from_numpy(self.features.spread(np.arange(len(vectors_UD))))
        return self.original.learner.score(torch.from_numpy(vectors_UD), places_BS)


def vectors_at(original: Original, hour: Hour) -> NDArray[np.float32]:
    """All rows as the original uses them in an hour, class rows added; default rows with that of the unknown."""
    vocabulary, vectors_VD = original.vocabulary, original.table.vectors_VD.copy()
    own = np.flatnonzero(vocabulary.row_V >= 0)
    classes_N = vocabulary.class_rows(
        vocabulary.fields_V[own].astype(np.int64),
        vocabulary.frequency(hour, own),
        hour.index - vocabulary.last_seen_V[own].astype(np.int64),
    )
    vectors_VD[vocabulary.row_V[own]] += vectors_VD[classes_N]
    defaults_F = np.arange(vocabulary.fields)
    unknown_F = vocabulary.class_rows(defaults_F, np.zeros(len(defaults_F), np.float32), defaults_F)
    vectors_VD[defaults_F] += vectors_VD[unknown_F]
    return vectors_VD


def filtered(name: str, table: StoredTable, threshold: float, fingerprint_bits: int = 8) -> Served:
    """Int8 rows for features of at least so high a frequency, 0 for all; the others use their field's default row."""
    original, index = table.original, table.index(threshold, fingerprint_bits)
    count, width = len(index.rows_N), original.config.model.width
    stored = count + original.vocabulary.fields
    size = index.bytes(max(1, (count - 1).bit_length())) + stored * row_bytes(width)
    vectors_VD = table.vectors_VD
    score = partial(table.score, vectors_VD, index, how.as_int8)
    return Served(name, *_timed(score, size, len(original.table) / stored))


def product_quantised(name: str, table: StoredTable, quantiser: Quantiser) -> Served:
    """The table by product quantisation, the codes in a keyless index."""
    decoded_VD, codebook_bytes, codewords = quantised(table, quantiser)
    index, width = table.index(0.0, quantiser.fingerprint_bits), table.original.config.model.width
    defaults = table.original.vocabulary.fields * row_bytes(width)
    size = index.bytes(quantiser.parts * quantiser.code_bits) + codebook_bytes + defaults
    return Served(name, *_timed(partial(table.score, decoded_VD, index), size, len(table.original.table) / codewords))


def quantised(table: StoredTable, quantiser: Quantiser) -> tuple[NDArray[np.float32], int, int]:
    """The table by product quantisation, field by field and every row alike.

    Returns:
        The vectors as decoded, bytes of the codebooks, and vectors stored, parts of vectors counted as such.
    """
    vocabulary, width = table.original.vocabulary, table.original.config.model.width
    decoded_VD = table.vectors_VD.copy()
    decoded_VD[: vocabulary.fields] = how.as_int8(decoded_VD[: vocabulary.fields])
    stored, codewords = 0, 1 << quantiser.code_bits
    own_V = np.flatnonzero(vocabulary.row_V >= 0)
    for field in range(vocabulary.fields):
        rows_N = vocabulary.row_V[own_V[vocabulary.fields_V[own_V] == field]]
        if len(rows_N) <= codewords:
            decoded_VD[rows_N] = how.as_int8(decoded_VD[rows_N])  # as few rows as codewords: the codebook is the rows
            stored += len(rows_N)
            continue
        decoded_VD[rows_N] = _decoded(table.vectors_VD[rows_N], quantiser)
        stored += codewords
    return decoded_VD, stored * (width + quantiser.parts * 2), stored + vocabulary.fields


def _decoded(vectors_ND: NDArray[np.float32], quantiser: Quantiser) -> NDArray[np.float32]:
    """Fit on all vectors alike, code and decode them; codebooks are stored as int8."""
    product: Any = faiss.ProductQuantizer(vectors_ND.shape[1], quantiser.parts, quantiser.code_bits)
    product.cp.niter, product.cp.max_points_per_centroid, product.cp.min_points_per_centroid = (
        FIT_ROUNDS,
        FITTED_POINTS,
        1,
    )
    product.train(vectors_ND)
    shape = (quantiser.parts * product.ksub, product.dsub)
    centroids = faiss.vector_to_array(product.centroids).reshape(shape)
    faiss.copy_array_to_vector(how.as_int8(centroids).ravel(), product.centroids)
    decoded_ND: NDArray[np.float32] = product.decode(product.compute_codes(vectors_ND))
    return decoded_ND
