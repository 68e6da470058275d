"""The published model: four files that score raw features without anything of training.

    index.safetensors      keyless index from feature key to code, all fields together
    codebooks.safetensors  codewords of all fields, the default codewords among them
    network.safetensors    parameters of the network
    schema.json            fields, crosses, hash key and network layout: how a row becomes keys and a score

Decisions: a feature that is not in the index, of the tail or unknown, falls on its field's default codeword, code 0, as
in training; so the index holds codes less one, newcomers as 0. An unknown key that the fingerprint lets through (one in
2^bits) gets some code, and one beyond its field's codebook counts as unknown. The gate judges what is read back from
these files.

Shapes: B rows, S slots, F fields, N indexed features, T codewords of all fields, D width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from saec.compress.codebooks import Centroids
from saec.compress.dial import KEY_BYTES
from saec.compress.index import RetrievalIndex
from saec.compress.places import CLUSTERS, DEFAULT, places
from saec.config import Config
from saec.errors import IntegrityError, TrainingError
from saec.model.networks import CtrNetwork, build_network
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.tensors import Arrays, check_parameters, load_network, network_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.compress.challenger import Challenger

INDEX, CODEBOOKS, NETWORK, SCHEMA = "index.safetensors", "codebooks.safetensors", "network.safetensors", "schema.json"
REPLACES_TABLE = (INDEX, CODEBOOKS)
"""The files that stand in for the original's rows and keys; every byte of them counts in `ratio_total`."""
FORMAT = 2
HEADER_LIMIT = 1 << 20
"""Most bytes of a file's header, and of the schema."""
_SCHEMA_SECTIONS: dict[str, bool | set[str]] = {
    "data": {"time_column", "label_column", "hash_key"},
    "fields": True,
    "crosses": True,
    "model": True,
}


@dataclass(frozen=True)
class Artifact:
    """A version's files, read and ready to score."""

    config: Config
    """What the schema tells: fields, crosses, hash key, network layout."""
    index: RetrievalIndex
    counts_F: NDArray[np.int64]
    """Clusters of each field."""
    codewords_TD: NDArray[np.float32]
    learner: Learner

    @classmethod
    def read(cls, folder: Path) -> Artifact:
        """Read a version's files; their bytes are checked by the store before, their meaning here.

        Raises:
            IntegrityError: naming the file that does not fit.
        """
        config = _read_schema(folder / SCHEMA)
        counts_F, codewords_TD = _read_codebooks(folder / CODEBOOKS, config)
        network = _read_network(folder / NETWORK, config)
        learner = Learner(network, Pooling.of(config.slot_fields), config.training)
        return cls(config, _read_index(folder / INDEX), counts_F, codewords_TD, learner)

    def codes(self, keys_BS: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The code of each feature in its field's codebook: 0 for the default codeword, -1 for padding."""
        codes_BS = self.index.lookup(keys_BS).astype(np.int64) + 1
        known_BS = codes_BS < self.counts_F[np.array(self.config.slot_fields)] + CLUSTERS
        return np.where(keys_BS == 0, -1, np.where(known_BS, codes_BS, DEFAULT))

    def score(self, keys_BS: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Probability of a click for each row of feature keys."""
        places_BS = places(self.codes(keys_BS), self.counts_F, self.config.slot_fields)
        return self.learner.score(torch.from_numpy(self.codewords_TD), torch.from_numpy(places_BS))


def write_artifact(
    folder: Path, challenger: Challenger, head_keys_H: NDArray[np.uint64], head_codes_H: NDArray[np.int16]
) -> dict[str, int]:
    """Write the files of a version into a folder.

    Returns:
        Bytes of each file on disk.

    Raises:
        TrainingError: when a codeword, in the precision it is stored in, or a parameter of the network is not finite.
    """
    compression = challenger.config.compression
    index = RetrievalIndex.build(
        head_keys_H,
        head_codes_H - 1,
        code_bits=_code_bits(challenger.standards.centroids),
        fingerprint_bits=compression.fingerprint_bits,
    )
    codebooks = _quantised(challenger.codebooks.vectors_TD, compression.codebook_precision)
    codebooks["counts_F"] = challenger.standards.centroids.counts_F.astype(np.uint16)
    save_file(index.tensors(), folder / INDEX)
    save_file(codebooks, folder / CODEBOOKS)
    save_file(_finite(network_arrays(challenger.learner.network)), folder / NETWORK)
    schema = {"format": FORMAT, **challenger.config.model_dump(mode="json", include=_SCHEMA_SECTIONS)}
    (folder / SCHEMA).write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return {name: (folder / name).stat().st_size for name in (INDEX, CODEBOOKS, NETWORK, SCHEMA)}


def compression_figures(rows: int, width: int, codewords: int, head: int, sizes: dict[str, int]) -> dict[str, float]:
    """The three ratios and what they are made of, in honest bytes.

    Args:
        rows: embedding rows that the original uses, default rows included.
        width: numbers of a row, four bytes each.
        codewords: codewords of all fields, the default codewords included.
        head: features that have a code of their own.
        sizes: bytes of the version's files.

    Returns:
        vectors_original, vectors_compressed, bytes_original (rows and 8-byte keys), bytes_compressed (the files that
        replace them), ratio_vectors, ratio_embedding (the paper's way: rows to codebooks and one byte a code, no keys
        on either side), ratio_total (bytes_original to bytes_compressed).
    """
    replaced = sum(sizes[name] for name in REPLACES_TABLE)
    table = rows * (4 * width + KEY_BYTES)
    return {
        "vectors_original": rows,
        "vectors_compressed": codewords,
        "bytes_original": table,
        "bytes_compressed": replaced,
        "ratio_vectors": rows / codewords,
        "ratio_embedding": rows * 4 * width / (sizes[CODEBOOKS] + head),
        "ratio_total": table / replaced,
    }


def _code_bits(centroids: Centroids) -> int:
    return max(1, int(centroids.counts_F.max(initial=0)).bit_length())


def _finite(parameters: Arrays) -> Arrays:
    """The parameters, all of them finite: the last step of a pass has no later loss that would show a NaN."""
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise TrainingError(
                f"network parameter {name!r} is not finite; the hour's training diverged: lower "
                "training.dense_learning_rate and run the hour again",
                reason="non-finite",
            )
    return parameters


def _quantised(vectors_TD: NDArray[np.float32], precision: str) -> Arrays:
    """Codewords as stored: half precision, or bytes with one scale a codeword."""
    with np.errstate(over="ignore", invalid="ignore"):
        if precision == "float16":
            stored: Arrays = {"codewords_TD": vectors_TD.astype(np.float16)}
        else:
            scale_T = (np.maximum(np.abs(vectors_TD).max(1), 1e-12) / 127.0).astype(np.float16)
            scale_T = np.maximum(scale_T, np.finfo(np.float16).smallest_subnormal)
            steps_TD = np.rint(vectors_TD / scale_T[:, None]).clip(-127, 127)
            stored = {"codewords_TD": steps_TD.astype(np.int8), "scale_T": scale_T}
        finite = np.isfinite(_dequantised(stored)).all()
    if not finite:
        raise TrainingError(
            f"codewords are not finite as {precision}, the largest is {np.abs(vectors_TD).max():g}; the hour's "
            "training diverged: lower training.table_learning_rate and run the hour again",
            reason="non-finite",
        )
    return stored


def _dequantised(codebooks: Arrays) -> NDArray[np.float32]:
    vectors_TD: NDArray[np.float32] = codebooks["codewords_TD"].astype(np.float32)
    return vectors_TD * codebooks["scale_T"][:, None] if "scale_T" in codebooks else vectors_TD


def _read_arrays(path: Path) -> Arrays:
    """The tensors of a file whose header is of a sensible length; the library itself would parse 100 MB of it."""
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > HEADER_LIMIT:
            raise IntegrityError(f"{path} has a header of {header:,} bytes, over the {HEADER_LIMIT:,} allowed; "
                                 "run saec verify")
        arrays: Arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} is not a readable safetensors file: {error}; run saec verify") from None
    return arrays


def _read_network(path: Path, config: Config) -> CtrNetwork:
    """The network of the schema with its parameters; their shapes are compared before memory is taken for it."""
    arrays, layout = _read_arrays(path), (config.model, len(config.field_names), config.seed)
    with torch.device("meta"):
        check_parameters(build_network(*layout), arrays, str(path))
    if broken := [name for name, values in arrays.items() if not np.isfinite(values).all()]:
        raise IntegrityError(f"{path} has network parameters {broken} that are not finite; run saec verify")
    network = build_network(*layout)
    load_network(network, arrays, str(path))
    return network


def _read_codebooks(path: Path, config: Config) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Codewords of each field, and all codewords as numbers."""
    arrays = _read_arrays(path)
    try:
        counts_F, codewords_TD = arrays["counts_F"].astype(np.int64), _dequantised(arrays)
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{path} holds no codebooks: {error}; run saec verify {path.parent.name}") from None
    wanted = (int((counts_F + CLUSTERS).sum()), config.model.width)
    if len(counts_F) != len(config.field_names) or codewords_TD.shape != wanted or not np.isfinite(codewords_TD).all():
        raise IntegrityError(
            f"{path} holds codewords {codewords_TD.shape} for {len(counts_F)} fields, wanted {wanted}, all finite, for "
            f"the {len(config.field_names)} fields of the schema; run saec verify {path.parent.name}"
        )
    return counts_F, codewords_TD


def _read_index(path: Path) -> RetrievalIndex:
    try:
        return RetrievalIndex.from_tensors(_read_arrays(path))
    except IntegrityError as error:
        raise IntegrityError(f"{path}: {error}") from None


def _read_schema(path: Path) -> Config:
    try:
        with path.open("rb") as file:
            schema = json.loads(file.read(HEADER_LIMIT))
        if schema.pop("format") != FORMAT:
            raise IntegrityError(f"{path} is of another format than {FORMAT}; score it with the saec that published it")
        return Config.model_validate({**schema, "data": {**schema["data"], "source": ""}})
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise IntegrityError(f"{path} is not a schema that this saec reads: {error}; run saec verify") from None
