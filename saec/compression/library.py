"""Compresses a trained embedding table of any framework in one call, without pipeline, configuration or torch.

It does what the pipeline does in an hour: clusters by field, weighted by frequency; codewords; a keyless index. Where
the pipeline relies on measurements of the hour, the library does this instead:

- Codes go to the vectors whose absence would cost most, by frequency times squared distance from their field's mean. If
  a field has no more vectors than allowed codewords, all get a code.
- The default codeword is the mean of the vectors that share it, weighted by frequency: nothing is retrained.

The ratio is guaranteed: all files together take at most the table's bytes divided by it. If every vector has a code and
bytes are left, they go to codewords, up to one for eight vectors of the largest field.

Shapes: N vectors of all fields, H of them with a code, F fields, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save

from saec.compression.clustering import assign, cluster
from saec.compression.codebooks import Centroids, Codebooks
from saec.compression.dial import Allowance
from saec.compression.heads import limit
from saec.compression.index import RetrievalIndex
from saec.compression.places import CLUSTERS
from saec.compression.quantised import code_bits, quantised, stored_bytes
from saec.errors import ConfigError, InputError
from saec.serving.files import CODEBOOKS, INDEX
from saec.serving.table import KEY_BYTES, TABLE, CompressedTable, describe, feature_keys, field_numbers, kind_of

MOST_CODEWORDS = 4095
"""Maximum number of codewords of a field, as in the pipeline."""
_FEATURES_A_CODEWORD = 8
_LARGEST = float(np.finfo(np.float16).max)
_FEWER = 0.995
"""Share of the features to keep if an index is larger than expected."""


class Rows(NamedTuple):
    """The rows of several tables, as `compress` takes them.

    Examples:
        >>> vectors, fields, keys = Rows(np.zeros((2, 4), np.float32), np.array(["user", "item"]), np.array([0, 0]))
        >>> compress(vectors, fields, keys, frequency=1, ratio=0.01).fields
        ('item', 'user')
    """

    vectors: NDArray[np.float32]
    """[N, D], all tables end to end."""
    fields: NDArray[np.str_]
    """[N], the name of each row's table."""
    keys: NDArray[np.int64]
    """[N], each row's number in its table."""


def compress(
    vectors: ArrayLike,
    fields: ArrayLike,
    keys: ArrayLike,
    frequency: ArrayLike,
    *,
    ratio: float = 100.0,
    fingerprint_bits: int = 8,
    precision: Literal["float16", "int8", "int4"] = "int8",
    seed: int = 0,
) -> CompressedTable:
    """Compress a trained embedding table.

    Args:
        vectors: [N, D] numbers, of all fields; arrays, or tensors of a framework. At most 65,504 in size.
        fields: [N] names, the field of each vector; or one name for all.
        keys: [N] integers, or strings; distinct within a field.
        frequency: [N], how often each key is looked up, in any unit; or one number if unknown.
        ratio: minimum ratio of the bytes of vectors and 8-byte keys to the bytes of all files.
        fingerprint_bits: 0 to 16; one unknown key in 2^bits is mistaken for a known one. Vectors without a code count
            as unknown.
        precision: of the numbers of codewords on disk. With float16 there is room for fewer; int4 has room for more,
            but is coarser than many codewords are apart.
        seed: of all random draws; the same arguments give the same bytes.

    Raises:
        InputError: when shapes do not fit, numbers are not finite, or a key repeats.
        ConfigError: when the ratio leaves no room for any vector.

    Examples:
        >>> vectors = np.random.default_rng(0).normal(size=(10_000, 16))
        >>> table = compress(vectors, "item", np.arange(10_000), 1 / np.arange(1, 10_001), ratio=50)
        >>> table.lookup("item", [0, 0, 123_456]).shape
        (3, 16)
        >>> table.sizes.ratio >= 50
        True
    """
    if not ratio > 0:
        raise ConfigError(f"ratio must be above 0, got {ratio!r}; 100 is a hundred times fewer bytes")
    vectors_ND, frequency_N = _checked(vectors, frequency)
    names, fields_N, keys_N = _keyed(fields, keys, len(vectors_ND))
    sizes_F = np.bincount(fields_N, minlength=len(names))
    described_by = partial(describe, names, kind_of(np.asarray(keys)), len(vectors_ND), vectors_ND.shape[1])
    described = described_by({INDEX: b"", CODEBOOKS: b""})
    most = vectors_ND.shape[0] * (4 * vectors_ND.shape[1] + KEY_BYTES) / ratio
    allowance = _allowance(
        most - len(described) - 16, sizes_F, stored_bytes(vectors_ND.shape[1], precision), fingerprint_bits, ratio
    )
    scores_N = _scores(vectors_ND, fields_N, frequency_N, sizes_F, allowance.codewords)
    features = min(allowance.features, len(vectors_ND))
    while True:
        head_N = scores_N > limit(scores_N, features)
        centroids, codes_H, defaults_FD = _clustered(
            vectors_ND, fields_N, frequency_N, head_N, sizes_F, allowance.codewords, seed
        )
        index = RetrievalIndex.build(
            keys_N[head_N],
            codes_H - 1,
            code_bits=code_bits(centroids.counts_F),
            fingerprint_bits=fingerprint_bits,
            hash_seed=seed,
        )
        codebooks = quantised(Codebooks.start(defaults_FD, centroids).vectors_TD, precision)
        codebooks["counts_F"] = centroids.counts_F.astype(np.uint16)
        files = {INDEX: save(index.tensors()), CODEBOOKS: save(codebooks)}
        files[TABLE] = described_by(files)
        if sum(map(len, files.values())) <= most or features <= 1:
            return CompressedTable(files)
        features = int(features * _FEWER)


def rows_of(tables: Any) -> Rows:
    """Collect the rows of embedding tables of any framework.

    Args:
        tables: a mapping from field to its table: an array or a tensor [rows, D], or a module with such a `weight`
            (`torch.nn.Embedding`, `torch.nn.EmbeddingBag`); or a whole torch module, whose embeddings are taken; or a
            state dict of TorchRec's `EmbeddingBagCollection` or `EmbeddingCollection`, alone or within a model's.
            Fields are named after the tables.

    Returns:
        The arguments of `compress`: vectors, fields, and row numbers as keys.

    Raises:
        InputError: when there is no table, or tables are of several widths.

    Examples:
        >>> rows = rows_of({"user": np.zeros((3, 4)), "item": np.ones((2, 4))})
        >>> rows.fields.tolist(), rows.keys.tolist()
        (['user', 'user', 'user', 'item', 'item'], [0, 1, 2, 0, 1])
    """
    arrays = {name: as_array(table) for name, table in _tables(tables).items()}
    if not arrays:
        raise InputError(
            "no embedding table found; give a mapping from field to its table, as in {'user': model.users.weight}"
        )
    if odd := {name: array.shape for name, array in arrays.items() if array.ndim != 2}:
        raise InputError(f"embedding tables must be [rows, width], got {odd}")
    if len(widths := {array.shape[1] for array in arrays.values()}) > 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(f"tables of widths {sorted(widths)} cannot be compressed together, got {shapes}: part them")
    return Rows(
        np.concatenate(list(arrays.values())),
        np.repeat(np.array(list(arrays)), [len(array) for array in arrays.values()]),
        np.concatenate([np.arange(len(array)) for array in arrays.values()]),
    )


def as_array(table: Any) -> NDArray[np.float32]:
    """Numbers of an array, of a tensor on any device, or of a module's `weight`."""
    table = getattr(table, "weight", table)
    if hasattr(table, "detach"):  # a tensor of torch; numpy knows no bfloat16
        table = table.detach().cpu().float().numpy()
    return np.asarray(table, np.float32, order="C")


def _tables(tables: Any) -> dict[str, Any]:
    """The tables by field, from any supported container."""
    if hasattr(tables, "named_modules"):
        found = {name: part for name, part in tables.named_modules() if hasattr(part, "num_embeddings")}
        return {_short(name, found) or "table": part for name, part in found.items()}
    if not isinstance(tables, Mapping):
        raise InputError(f"tables must be a mapping from field to table or a torch module, got {type(tables).__name__}")
    collected = {
        name.removesuffix(".weight"): table
        for name, table in tables.items()
        if {"embedding_bags", "embeddings"} & set(str(name).split(".")[:-2]) and str(name).endswith(".weight")
    }
    if collected:
        return {_short(name, collected): table for name, table in collected.items()}
    return {str(name): table for name, table in tables.items()}


def _short(name: str, names: Mapping[str, Any]) -> str:
    """The last part of a dotted name if it is unambiguous, else the whole name."""
    last = name.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in names) == 1 else name


def _checked(vectors: ArrayLike, frequency: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors and frequencies as arrays that can be clustered."""
    vectors_ND = as_array(vectors)
    if vectors_ND.ndim != 2 or not vectors_ND.size:
        raise InputError(f"vectors must be [N, D] with a vector at least, got {list(vectors_ND.shape)}")
    if not (np.abs(vectors_ND) <= _LARGEST).all():
        row = int(np.flatnonzero(~(np.abs(vectors_ND) <= _LARGEST).all(1))[0])
        raise InputError(f"vector {row} has numbers that are not finite or beyond {_LARGEST:,.0f}; fix or drop it")
    given = as_array(frequency)
    if given.shape not in {(), (len(vectors_ND),)}:
        raise InputError(f"frequency must be [{len(vectors_ND)}], one a vector, or one number; got {list(given.shape)}")
    frequency_N = np.array(np.broadcast_to(given, len(vectors_ND)))
    if not (np.isfinite(frequency_N).all() and (frequency_N >= 0).all() and frequency_N.any()):
        raise InputError("frequency must be finite, 0 or more, and more than 0 for some vector")
    return vectors_ND, frequency_N / frequency_N.max()


def _keyed(fields: ArrayLike, keys: ArrayLike, count: int) -> tuple[list[str], NDArray[np.int64], NDArray[np.uint64]]:
    """Names of the fields in order, the field of each vector, and the hash of each key."""
    given = np.asarray(fields)
    keys = np.asarray(keys)
    if given.shape not in {(), (count,)} or keys.shape != (count,):
        raise InputError(
            f"fields and keys must be [{count}], one a vector (fields may be one name); "
            f"got {list(given.shape)} and {list(keys.shape)}"
        )
    names = sorted({str(name) for name in np.unique(given).tolist()})
    fields_N = np.array(np.broadcast_to(field_numbers(given, names), count))
    keys_N = feature_keys(names, fields_N, keys)
    _, first_M, counts_M = np.unique(keys_N, return_index=True, return_counts=True)
    if len(first_M) < count:
        row = int(first_M[counts_M > 1][0])
        raise InputError(
            f"{count - len(first_M)} keys repeat within their field, such as {keys[row]!r} of "
            f"{names[fields_N[row]]!r}; keep one vector a key"
        )
    return names, fields_N, keys_N


def _allowance(
    most: float, sizes_F: NDArray[np.int64], codeword_bytes: int, fingerprint_bits: int, ratio: float
) -> Allowance:
    """The number of codewords per field and of vectors with a code that fit in this many bytes."""

    def within(codewords: int | None = None) -> Allowance:
        return Allowance.within(most, len(sizes_F), codeword_bytes, fingerprint_bits, codewords)

    if (allowance := within()).features < 1:
        raise ConfigError(
            f"ratio {ratio:g} leaves {max(most, 0):,.0f} bytes for the index and {len(sizes_F)} codebooks, which is "
            "room for no vector; give a smaller ratio"
        )
    rows, largest = int(sizes_F.sum()), int(sizes_F.max())
    while allowance.features >= rows:
        codewords = 2 * allowance.codewords + 1
        wider = within(codewords)
        if wider.features < rows or codewords > min(MOST_CODEWORDS, largest // _FEATURES_A_CODEWORD):
            break
        allowance = wider
    return allowance


def _scores(
    vectors_ND: NDArray[np.float32],
    fields_N: NDArray[np.int64],
    frequency_N: NDArray[np.float32],
    sizes_F: NDArray[np.int64],
    codewords: int,
) -> NDArray[np.float64]:
    """The cost, in weighted squared error, of replacing each vector by the mean of its field."""
    scores_N = np.empty(len(vectors_ND))
    for field, size in enumerate(sizes_F):
        of_field = np.flatnonzero(fields_N == field)
        weights_M = frequency_N[of_field].astype(np.float64)
        vectors_MD = vectors_ND[of_field]
        away_MD = vectors_MD - _mean(vectors_MD, weights_M)
        scores_N[of_field] = np.inf if size <= codewords else weights_M * np.square(away_MD).sum(1)
    return scores_N


def _clustered(
    vectors_ND: NDArray[np.float32],
    fields_N: NDArray[np.int64],
    frequency_N: NDArray[np.float32],
    head_N: NDArray[np.bool_],
    sizes_F: NDArray[np.int64],
    codewords: int,
    seed: int,
) -> tuple[Centroids, NDArray[np.int64], NDArray[np.float32]]:
    """The clusters of each field, the code of each vector of the head in the order of all, and default codewords."""
    by_field, codes_N = [], np.zeros(len(vectors_ND), np.int64)
    defaults_FD = np.empty((len(sizes_F), vectors_ND.shape[1]), np.float32)
    for field in range(len(sizes_F)):
        own_N = fields_N == field
        of_head, of_tail = np.flatnonzero(own_N & head_N), np.flatnonzero(own_N & ~head_N)
        vectors_MD, weights_M = vectors_ND[of_head], frequency_N[of_head]
        by_field.append(vectors_MD)
        if len(of_head):
            by_field[field] = cluster(vectors_MD, weights_M, codewords, seed=seed + field)
            codes_N[of_head] = assign(vectors_MD, by_field[field])[0] + CLUSTERS
        unknown = of_tail if len(of_tail) else of_head
        defaults_FD[field] = _mean(vectors_ND[unknown], frequency_N[unknown].astype(np.float64))
    return Centroids.joined(by_field), codes_N[head_N], defaults_FD


def _mean(vectors_MD: NDArray[np.float32], weights_M: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weighted mean; the plain mean if all weights are 0."""
    weights_M = weights_M if weights_M.any() else np.ones_like(weights_M)
    mean_D: NDArray[np.float32] = (weights_M @ vectors_MD / weights_M.sum()).astype(np.float32)
    return mean_D
