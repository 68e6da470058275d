"""Writes the published model: the files with which `saec.serving` scores raw features, without any training state.

Decisions: the index stores each code minus one, so newcomers are 0; features of the tail are not in it. Numbers that
are not finite are never written. The gate judges what `saec.serving` reads back from these files. A few gate rows are
added, as keys only, so that every server can check that it scores as the gate did.

Shapes: B rows, S slots, R recorded rows, N indexed features, T codewords of all fields, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from saec.compression.dial import KEY_BYTES
from saec.compression.index import RetrievalIndex
from saec.compression.index_together import built_together
from saec.compression.quantised import affordable, code_bits, quantised
from saec.data.schema import schema_text
from saec.durable import storage_errors
from saec.errors import TrainingError
from saec.serving.files import (
    CODEBOOKS,
    INDEX,
    NETWORK,
    ORIGINAL_CODEBOOKS,
    ORIGINAL_NETWORK,
    RECORDED,
    SCHEMA,
)
from saec.serving.rounding import rounded
from saec.train.tensors import Arrays, network_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.compression.challenger import Challenger
    from saec.config import CompressionConfig

MOST_RECORDED = 8
"""Number of gate rows that a version contains, with their scores, for servers to check."""
MANIFEST_BYTES = 4096
"""Bytes assumed for the manifest in `ratio_version`, which the manifest itself contains; actual ones take 3 kB."""
REPLACES_TABLE = (INDEX, CODEBOOKS, ORIGINAL_CODEBOOKS)
"""The files that replace the original's rows and keys; every byte of them counts in `ratio_total`."""


def write_artifact(
    folder: Path, challenger: Challenger, head_keys_H: NDArray[np.uint64], head_codes_H: NDArray[np.int16]
) -> dict[str, int]:
    """Write the files of a version into a folder.

    Returns:
        Bytes of each file on disk.

    Raises:
        TrainingError: when a codeword, in the precision it is stored in, or a parameter of the network is not finite.
        StoreError: when a file cannot be written, say because the disk is full.
    """
    compression = challenger.config.compression
    index = RetrievalIndex.build(
        head_keys_H,
        head_codes_H - 1,
        code_bits=code_bits(challenger.standards.centroids.counts_F),
        fingerprint_bits=compression.fingerprint_bits,
        by_shard=built_together,
    )
    vectors_TD = challenger.codebooks.vectors_TD
    precision = affordable(compression.codebook_precision, vectors_TD, index.nbytes)
    compression = compression.model_copy(update={"codebook_precision": precision})
    codebooks = quantised(vectors_TD, precision)
    codebooks["counts_F"] = challenger.standards.centroids.counts_F.astype(np.uint16)
    network = rounded(_finite(network_arrays(challenger.learner.averaged)), compression.network_precision)
    sizes = {
        INDEX: _write(folder / INDEX, save(index.tensors())),
        CODEBOOKS: _write(folder / CODEBOOKS, save(codebooks)),
        NETWORK: _write(folder / NETWORK, save(network)),
        SCHEMA: _write(folder / SCHEMA, schema_text(challenger.config).encode()),
    }
    quantised_original, share = challenger.quantised, challenger.quantised_share
    if quantised_original is None or not share:
        return sizes
    return sizes | write_quantised_original(
        folder, quantised_original.network, quantised_original.vectors_TD, codebooks["counts_F"], share, compression
    )


def write_quantised_original(
    folder: Path,
    network: Arrays,
    vectors_TD: NDArray[np.float32],
    counts_F: NDArray[np.int64],
    share: float,
    compression: CompressionConfig,
) -> dict[str, int]:
    """Write the files that make a version an ensemble, beside its others.

    Args:
        folder: of the version.
        network: parameters of the original's network.
        vectors_TD: the mean of the original's vectors for each code, in the order of the codewords.
        counts_F: clusters of each field, those of the version's codebooks.
        share: what the original's logit counts for, between 0 and 1.
        compression: in which precision they are stored.

    Returns:
        Bytes of each file on disk.

    Raises:
        TrainingError: when a vector, in the precision it is stored in, or a parameter of the network is not finite.
        StoreError: when a file cannot be written.
    """
    codebooks = quantised(vectors_TD, compression.codebook_precision)
    codebooks |= {"counts_F": counts_F.astype(np.uint16), "share": np.array(share, np.float32)}
    parameters = rounded(_finite(network), compression.network_precision)
    return {
        ORIGINAL_CODEBOOKS: _write(folder / ORIGINAL_CODEBOOKS, save(codebooks)),
        ORIGINAL_NETWORK: _write(folder / ORIGINAL_NETWORK, save(parameters)),
    }


def write_recorded(folder: Path, keys_BS: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Write the keys of a few of the gate's rows, evenly chosen, beside the files of a version.

    Returns:
        Which rows were chosen, [R].
    """
    chosen_R = np.unique(np.linspace(0, len(keys_BS) - 1, min(len(keys_BS), MOST_RECORDED)).astype(np.int64))
    _write(folder / RECORDED, save({"keys_RS": np.ascontiguousarray(keys_BS[chosen_R])}))
    return chosen_R


def compression_figures(
    rows: int, width: int, network: int, codewords: int, head: int, slots: int, sizes: dict[str, int]
) -> dict[str, float]:
    """The compression ratios and the byte counts behind them.

    Args:
        rows: embedding rows that the original uses, default rows included.
        width: numbers of a row, four bytes each.
        network: numbers of the original's network, four bytes each.
        codewords: codewords of all fields, the default codewords included, in an ensemble those of both models.
        head: features that have a code of their own.
        slots: keys of a row.
        sizes: bytes of the version's files so far.

    Returns:
        vectors_original, vectors_compressed, bytes_original (rows and 8-byte keys), bytes_compressed (the files that
        replace them), bytes_version_original (the network too), bytes_version (all files; recorded rows and manifest
        are still to be written: the most rows there may be, and 4 kB for the manifest), ratio_vectors,
        ratio_embedding (rows to all codebooks and one byte a code, no keys on either side), ratio_total
        (bytes_original to bytes_compressed), ratio_version (bytes_version_original to bytes_version).
    """
    replaced = sum(sizes.get(name, 0) for name in REPLACES_TABLE)
    codebooks = sizes[CODEBOOKS] + sizes.get(ORIGINAL_CODEBOOKS, 0)
    table = rows * (4 * width + KEY_BYTES)
    original = table + 4 * network
    version = sum(sizes.values()) + _recorded_bytes(slots) + MANIFEST_BYTES
    return {
        "vectors_original": rows,
        "vectors_compressed": codewords,
        "bytes_original": table,
        "bytes_compressed": replaced,
        "bytes_version_original": original,
        "bytes_version": version,
        "ratio_vectors": rows / codewords,
        "ratio_embedding": rows * 4 * width / (codebooks + head),
        "ratio_total": table / replaced,
        "ratio_version": original / version,
    }


def _write(path: Path, data: bytes) -> int:
    """Write a file, and return its bytes; an error of the disk names the file, which safetensors' own do not."""
    with storage_errors(f"write {path}"):
        return path.write_bytes(data)


def _recorded_bytes(slots: int) -> int:
    """Bytes of the maximum number of recorded rows."""
    return len(save({"keys_RS": np.zeros((MOST_RECORDED, slots), np.uint64)}))


def _finite(parameters: Arrays) -> Arrays:
    """The parameters, checked to be finite: no later loss would show a NaN from the last step of a pass."""
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise TrainingError(
                f"network parameter {name!r} is not finite; the hour's training diverged: lower "
                "training.dense_learning_rate and run the hour again",
                reason="non-finite",
            )
    return parameters
