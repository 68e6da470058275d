"""A compressed embedding table, made by `saec.compress`: look-ups, sizes, saving and opening.

Decisions:
- Its files are those of a version that stand in for the table, `index.safetensors` and `codebooks.safetensors`, beside
  a `table.json` that names the fields and the sha256 of both. Nothing is pickled, and numpy is all that reading needs.
- A key is an integer or a string and belongs to a field; its 64-bit hash is what the index knows (`saec.data.hashing`),
  so no key is stored. An unknown key gets its field's default codeword. One unknown key in 2^fingerprint_bits is taken
  for a known one and gets some codeword of its field.

Shapes: N keys, F fields, T codewords of all fields, D width, B bags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saec.compression.places import places
from saec.data.hashing import Keys, field_key, hash_bytes, hash_int64
from saec.durable import make_folder, write_file
from saec.errors import InputError, IntegrityError, nearest
from saec.serving.codebooks import codes_of, read_codebooks, read_index
from saec.serving.files import CODEBOOKS, HEADER_LIMIT, INDEX, map_file
from saec.store.objects import Buffer, FileEntry

TABLE = "table.json"
KEY_BYTES = 8
"""Bytes of a key beside a row of the table that is replaced."""
_FORMAT = 1
_HASH_KEY = "saec.compress"


@dataclass(frozen=True)
class Sizes:
    """Sizes of a table before and after compression; in bytes on disk unless noted.

    Examples:
        >>> print(Sizes(rows=1000, width=16, coded=900, codewords=65, index=1500, codebooks=2200, description=300))
        1,000 vectors of 16 numbers, 72,000 bytes with their keys, in 4,000 bytes: 18.0 times fewer
        (index 1,500, codebooks 2,200, description 300; 900 vectors have a codeword of 65;
        without keys 16.0 times fewer)
    """

    rows: int
    """Vectors of the original table."""
    width: int
    """Numbers of a vector."""
    coded: int
    """Vectors that have a code of their own; the others share their field's default codeword."""
    codewords: int
    """Codewords of all fields."""
    index: int
    """The index from key to code, which stores no keys; nothing else maps keys."""
    codebooks: int
    """The codewords."""
    description: int
    """`table.json`."""

    @property
    def vectors(self) -> int:
        """The original's vectors, four bytes a number."""
        return self.rows * 4 * self.width

    @property
    def keys(self) -> int:
        """The original's keys, eight bytes each."""
        return self.rows * KEY_BYTES

    @property
    def total(self) -> int:
        """All files of the compressed table."""
        return self.index + self.codebooks + self.description

    @property
    def ratio(self) -> float:
        """The original's vectors and keys to all files."""
        return (self.vectors + self.keys) / self.total

    @property
    def ratio_without_keys(self) -> float:
        """The original's vectors alone to all files: for a table whose row numbers are its keys."""
        return self.vectors / self.total

    def __str__(self) -> str:
        """All of it in two lines."""
        return (
            f"{self.rows:,} vectors of {self.width} numbers, {self.vectors + self.keys:,} bytes with their keys, in "
            f"{self.total:,} bytes: {self.ratio:.1f} times fewer\n(index {self.index:,}, codebooks {self.codebooks:,}, "
            f"description {self.description:,}; {self.coded:,} vectors have a codeword of {self.codewords:,}; "
            f"without keys {self.ratio_without_keys:.1f} times fewer)"
        )


class CompressedTable:
    """A compressed embedding table, for example in a hundredth of its bytes.

    Examples:
        >>> import saec
        >>> vectors = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
        >>> table = saec.compress(vectors, "user", np.arange(5000), np.arange(5000, 0, -1), ratio=20)
        >>> table.lookup("user", [7, 7, 999_999_999]).shape
        (3, 8)
        >>> table.sizes.ratio >= 20
        True
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> table.save(folder)
        >>> bool((CompressedTable.open(folder).lookup("user", [7]) == table.lookup("user", [7])).all())
        True
    """

    def __init__(self, files: Mapping[str, Buffer], origin: Path | str = "the compressed table") -> None:
        """Read the bytes of the three files; see `open`.

        Raises:
            IntegrityError: naming the file that is not as it was written.
        """
        origin = Path(origin)
        self._files = files
        told = _description(files[TABLE], origin / TABLE)
        for name in (INDEX, CODEBOOKS):
            wanted, found = told["files"][name], FileEntry.of(files[name])
            if found != wanted:
                raise IntegrityError(f"{origin / name} was altered: {wanted.unlike(found)}; save the table again")
        self.fields: tuple[str, ...] = tuple(told["fields"])
        """Names of the fields."""
        self.keys: Literal["integers", "strings"] | None = told.get("keys")
        """What its keys are; None in a table that was saved before this was told."""
        self._rows = int(told["rows"])
        self._sip_2F = _sip_keys(self.fields)
        self.index = read_index(files[INDEX], origin / INDEX)
        self.counts_F, self.codewords_TD = read_codebooks(
            files[CODEBOOKS], origin / CODEBOOKS, len(self.fields), int(told["width"])
        )

    @classmethod
    def open(cls, folder: Path | str) -> CompressedTable:
        """A table that `save` wrote.

        Raises:
            IntegrityError: naming the file that is missing or altered.
        """
        folder = Path(folder)
        return cls({name: map_file(folder / name) for name in (TABLE, INDEX, CODEBOOKS)}, folder)

    def save(self, folder: Path | str) -> None:
        """Write the three files, `table.json` last.

        Args:
            folder: made where there is none; a table that is there is replaced.
        """
        folder = Path(folder)
        make_folder(folder)
        for name in (INDEX, CODEBOOKS, TABLE):
            write_file(folder / name, bytes(self._files[name]))

    @property
    def sizes(self) -> Sizes:
        """What the table took, and what it takes now."""
        return Sizes(
            rows=self._rows,
            width=self.codewords_TD.shape[1],
            coded=self.index.keys,
            codewords=len(self.codewords_TD),
            index=len(self._files[INDEX]),
            codebooks=len(self._files[CODEBOOKS]),
            description=len(self._files[TABLE]),
        )

    def codes(self, fields: ArrayLike, keys: ArrayLike) -> NDArray[np.int64]:
        """Code of each key in its field's codebook; 0, the default codeword's, of a key without one.

        Args:
            fields: the name of the field of all keys, or an array of names that fits the shape of the keys.
            keys: integers or strings, of any shape; the same key may be asked for many times.

        Raises:
            InputError: for a field that the table has not, or keys of another kind than the table's.
        """
        return self._coded(fields, keys)[0]

    def lookup(self, fields: ArrayLike, keys: ArrayLike) -> NDArray[np.float32]:
        """The vector of each key, of the keys' shape and D; arguments and errors as of `codes`."""
        codes, fields_N = self._coded(fields, keys)
        return self.codewords_TD[places(codes, self.counts_F, fields_N)]

    def bags(
        self, field: str, keys: ArrayLike, offsets: ArrayLike, mode: Literal["mean", "sum"] = "mean"
    ) -> NDArray[np.float32]:
        """Sums or means over bags of keys, as `torch.nn.EmbeddingBag` gives them: (B, D), zeros for an empty bag.

        Args:
            field: of all keys.
            keys: [N], bag after bag.
            offsets: [B], ascending from 0: where each bag begins.
            mode: `mean` or `sum`.

        Raises:
            InputError: also when the offsets do not fit the keys.
        """
        vectors_ND = self.lookup(field, np.ravel(np.asarray(keys)))
        starts_B = np.asarray(offsets, np.int64)
        lengths_B = np.diff(starts_B, append=len(vectors_ND))
        if starts_B.ndim != 1 or (len(starts_B) and starts_B[0] != 0) or (lengths_B < 0).any():
            raise InputError(
                f"offsets of bags must ascend from 0 to at most {len(vectors_ND)}, the number of keys; "
                f"got {np.array2string(starts_B, threshold=8)}"
            )
        bags_BD = np.zeros((len(starts_B), vectors_ND.shape[1]), np.float32)
        filled_B = lengths_B > 0
        if filled_B.any():
            bags_BD[filled_B] = np.add.reduceat(vectors_ND, starts_B[filled_B], axis=0)
        if mode == "mean":
            bags_BD /= np.maximum(lengths_B, 1)[:, None].astype(np.float32)
        return bags_BD

    def _coded(self, fields: ArrayLike, keys: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes of keys, and the numbers of their fields."""
        keys = np.asarray(keys)
        fields_N = np.broadcast_to(field_numbers(fields, self.fields), keys.shape)
        hashes = hashed(keys, fields_N, self._sip_2F)
        if keys.size and self.keys not in (None, found := kind_of(keys)):
            first = keys.reshape(-1)[:1].tolist()[0]
            raise InputError(f"the table's keys are {self.keys}, got {found} such as {first!r}; no key is cast")
        return codes_of(self.index, self.counts_F, hashes, fields_N), fields_N


def describe(fields: Sequence[str], keys: str, rows: int, width: int, files: Mapping[str, bytes]) -> bytes:
    """The bytes of `table.json`."""
    entries = {name: asdict(FileEntry.of(data)) for name, data in files.items()}
    told = {"format": _FORMAT, "fields": list(fields), "keys": keys, "rows": rows, "width": width, "files": entries}
    return json.dumps(told, separators=(",", ":")).encode()


def kind_of(keys: NDArray[Any]) -> Literal["integers", "strings"]:
    """What keys are, by their array; whether each is one is seen when they are hashed."""
    return "integers" if keys.dtype.kind in "iu" else "strings"


def feature_keys(names: Sequence[str], fields_N: NDArray[np.int64], keys_N: NDArray[Any]) -> Keys:
    """What the index knows of keys: a hash of field and key, never 0."""
    return hashed(keys_N, fields_N, _sip_keys(names))


def field_numbers(fields: ArrayLike, names: Sequence[str]) -> NDArray[np.int64]:
    """Fields, given by name, as places among these names; of the shape that was given.

    Raises:
        InputError: naming one that is not among them.
    """
    given, inverse = np.unique(np.asarray(fields), return_inverse=True)
    known = {name: number for number, name in enumerate(names)}
    if unknown := [str(name) for name in given.tolist() if str(name) not in known]:
        raise InputError(
            f"the table has no field {unknown[0]!r}{nearest(unknown[0], names)}; its fields: {', '.join(names)}"
        )
    numbers = np.array([known[str(name)] for name in given.tolist()], np.int64)
    return numbers[inverse].reshape(np.shape(fields))


def hashed(keys: NDArray[Any], fields: NDArray[np.int64], sip_2F: Keys) -> Keys:
    """Hashes of keys of any shape, each under the key of its field."""
    flat_N, sip_2N = keys.reshape(-1), sip_2F[:, fields.reshape(-1)]
    if keys.dtype.kind in "iu":
        return hash_int64(flat_N, sip_2N).reshape(keys.shape)
    if keys.dtype.kind == "S":
        return hash_bytes(flat_N.tolist(), sip_2N).reshape(keys.shape)
    texts = flat_N.tolist()
    if not all(isinstance(text, str) for text in texts) or (keys.dtype.kind not in "UOT" and texts):
        raise InputError(f"keys must be all integers, or all strings; got {keys.dtype} such as {texts[:3]!r}")
    return hash_bytes([text.encode("utf-8", "surrogatepass") for text in texts], sip_2N).reshape(keys.shape)


def _sip_keys(names: Sequence[str]) -> Keys:
    return np.array([field_key(_HASH_KEY, name) for name in names], np.uint64).T


def _description(data: Buffer, origin: Path) -> dict[str, Any]:
    """What `table.json` says, all of it there and of the right kind."""
    if len(data) > HEADER_LIMIT:
        raise IntegrityError(f"{origin} has {len(data):,} bytes, over the {HEADER_LIMIT:,} allowed")
    try:
        told = json.loads(bytes(data))
        files = {name: FileEntry(**told["files"][name]) for name in (INDEX, CODEBOOKS)}
        fields, sizes = told["fields"], (told["rows"], told["width"], *(entry.bytes for entry in files.values()))
        right = (
            told["format"] == _FORMAT
            and all(isinstance(name, str) for name in fields)
            and told.get("keys") in (None, "integers", "strings")
            and len(set(fields)) == len(fields) > 0
            and all(type(size) is int and size >= 0 for size in sizes)
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise IntegrityError(f"{origin} does not describe a compressed table: {said}; save the table again") from None
    if not right:
        raise IntegrityError(
            f"{origin} does not describe a compressed table of format {_FORMAT}, of distinct fields and of sizes; "
            "save the table again"
        )
    return {**told, "files": files}
