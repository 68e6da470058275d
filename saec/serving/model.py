"""A published version, opened and ready to score; the gate, `saec score` and every server use it.

Decisions: a feature that is not in the index (tail or unknown) gets its field's default codeword, code 0, as in
training; so the index stores each code minus one, newcomers as 0. An unknown key that passes the fingerprint check (one
in 2^bits) gets an arbitrary code; a code beyond its field's codebook counts as unknown. Nulls and empty lists are
features too. Rows are scored in blocks, so that memory does not grow with them. Of an ensemble
(`saec.serving.members`), all members score the same look-ups, and the weighted mean of their logits is the version's.

Shapes: B rows, S slots, F fields, T codewords of all fields, D width, R recorded rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.compression.places import places
from saec.data.features import FeatureEncoder
from saec.data.hashing import Keys
from saec.data.schema import Schema, parse_schema
from saec.errors import IntegrityError
from saec.serving.codebooks import codes_of, read_index
from saec.serving.compiled import Compiled, takes
from saec.serving.files import (
    CODEBOOKS,
    HEADER_LIMIT,
    INDEX,
    NETWORK,
    ORIGINAL_CODEBOOKS,
    ORIGINAL_NETWORK,
    RECORDED,
    SCHEMA,
    map_file,
    read_manifest,
    tensors,
)
from saec.serving.files import (
    verify as check_files,
)
from saec.serving.kernel import chosen
from saec.serving.members import read_members
from saec.serving.network import Floats, Network, Shared, sigmoid
from saec.serving.rows import Rows, columns_of
from saec.store.objects import Buffer

SCORED_AT_ONCE = 1024
"""Rows that go through the network together: their arrays then stay in the processor's cache."""
TOLERANCE = 1e-6
"""Tolerance between scores of the recorded rows and the recorded scores: processors round differently."""


class Model:
    """A version, ready to score.

    Examples:
        A version of the store is opened with `Model.open(folder)`. Here one that has learnt nothing yet is made first.

        >>> from tempfile import mkdtemp
        >>> from saec.compression.artifact import write_artifact
        >>> from saec.compression.challenger import Challenger
        >>> from saec.config import Config
        >>> config = Config.model_validate(
        ...     {
        ...         "data": {"source": "clicks", "time_column": "time", "label_column": "clicked"},
        ...         "fields": [{"name": "user"}],
        ...         "model": {"width": 4, "hidden": [8]},
        ...     }
        ... )
        >>> folder = Path(mkdtemp())
        >>> sizes = write_artifact(folder, Challenger(config), np.zeros(0, np.uint64), np.zeros(0, np.int16))
        >>> model = Model.read(folder)
        >>> model.columns
        {'user': 'int'}
        >>> model.score([{"user": 7}, {"user": 9}]).round(1)
        array([0.4, 0.4])
    """

    def __init__(
        self, folder: Path, manifest: dict[str, Any], files: Mapping[str, Buffer], engine: str | None = "numpy"
    ) -> None:
        """Read mapped files; see `open` and `read`."""
        self.folder = folder
        self.manifest = manifest
        self.schema = _schema(files[SCHEMA], folder / SCHEMA)
        self.index = read_index(files[INDEX], folder / INDEX)
        self.counts_F, self.members = read_members(folder, files, self.schema)
        self.encoder = FeatureEncoder(self.schema)
        self._slot_fields_S = np.array(self.schema.slot_fields)
        self._recorded = files.get(RECORDED)
        library, self._engine = chosen(engine)
        if library and not takes(library, self.schema, self.members):
            library, self._engine = None, "numpy (the version's codewords are too many to compile)"
        self._compiled = library and Compiled(library, self.schema, self.index, self.counts_F, self.members)

    @classmethod
    def open(cls, folder: Path | str, verify: bool = True, engine: str | None = None) -> Model:
        """Open a version.

        Args:
            folder: `versions/<id>` of a store, with its manifest.
            verify: whether every file is compared with its sha256; the caller may have just done so.
            engine: what scores: `compiled`, `numpy`, or `auto`, compiled code where it is built. Left out, what
                `SAEC_ENGINE` says, else `auto`.

        Raises:
            IntegrityError: naming the file that is not as published.
            ConfigError: when the engine is not available.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        files = {name: map_file(folder / name) for name in manifest["files"]}
        if verify:
            check_files(folder, manifest, files.__getitem__)
        return cls(folder, manifest, _complete(folder, files), engine)

    @classmethod
    def read(cls, folder: Path) -> Model:
        """The files of what is no version yet, without manifest: the gate's candidate, for numpy to score with."""
        more = [name for name in (RECORDED, ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK) if (folder / name).exists()]
        return cls(folder, {}, {name: map_file(folder / name) for name in (INDEX, CODEBOOKS, NETWORK, SCHEMA, *more)})

    @property
    def version(self) -> str:
        """The version's id; "" for what is none yet."""
        return str(self.manifest.get("version", ""))

    @property
    def codewords_TD(self) -> Floats:
        """The retrained model's codewords."""
        return self.members[0].codewords_TD

    @property
    def network(self) -> Network:
        """The retrained model's network."""
        return self.members[0].network

    @property
    def engine(self) -> str:
        """What scores, in words: compiled code or numpy, and why."""
        return self._engine

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a row may have, and in words what is wanted of each."""
        return self.schema.columns

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Probability of a click for each of B rows.

        Args:
            rows: a sequence of dicts, a dict of columns (lists or arrays), or an Arrow table or record batch.

        Raises:
            InputError: naming the column that is missing, unknown, or holds something else than it should.
        """
        columns, times_B = columns_of(rows, self.schema)
        if self._compiled:
            scores_B = self._compiled.score(columns, times_B, self._compiled.encoder.rows(columns, times_B))
            if scores_B is not None:
                return scores_B
        return self.score_keys(self.encoder.encode(columns, times_B))

    def score_candidates(
        self, user: Mapping[str, Any] | Any, candidates: Sequence[Mapping[str, Any]] | Any
    ) -> NDArray[np.float64]:
        """Probability of a click for each of B candidates of one user.

        Args:
            user: the columns that all rows share: a dict, or an Arrow table of one row.
            candidates: the columns of each: dicts, or an Arrow table; a column may be on one side only.
        """
        columns, times_B = columns_of(candidates, self.schema, shared=user)
        if self._compiled and (scores_B := self._compiled.score(columns, times_B, len(candidates))) is not None:
            return scores_B
        keys = self.encoder.encode_fields(columns, times_B)
        own_F = np.array([len(keys_BL) == len(candidates) for keys_BL in keys])
        if own_F.all() or not own_F.any():  # nothing to share, or nothing that differs
            return np.array(np.broadcast_to(self.score_keys(np.concatenate(keys, axis=1)), len(candidates)))
        own_S = own_F[self._slot_fields_S]
        own_BS, shared_1S = (
            np.concatenate([keys_BL for keys_BL, own in zip(keys, own_F, strict=True) if own == side], axis=1)
            for side in (True, False)
        )
        fields_S = self._slot_fields_S[~own_S]
        places_1S = self._places(shared_1S, fields_S)
        shared = [member.network.share(member.field_vectors(places_1S, fields_S)[0], ~own_F) for member in self.members]
        return self._scored(own_BS, self._slot_fields_S[own_S], shared)

    def encode(self, rows: Rows) -> Keys:
        """The key matrix (B, S) of B rows; arguments and errors as of `score`."""
        return self.encoder.encode(*columns_of(rows, self.schema))

    def codes(self, keys: Keys, fields: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The code of each feature in its field's codebook: 0 for the default codeword, -1 for padding.

        Args:
            keys: feature keys of any shape, 0 for padding.
            fields: their fields, of a shape that fits; those of the S slots when left out.
        """
        fields = self._slot_fields_S if fields is None else fields
        return np.where(keys == 0, -1, codes_of(self.index, self.counts_F, keys, fields))

    def score_keys(self, keys_BS: Keys) -> NDArray[np.float64]:
        """Probability of a click for each row of feature keys."""
        if self._compiled and (scores_B := self._compiled.score_keys(keys_BS)) is not None:
            return scores_B
        return self._scored(keys_BS, self._slot_fields_S, [None] * len(self.members))

    def _scored(
        self, keys_BS: Keys, fields_S: NDArray[np.int64], shared: Sequence[Shared | None]
    ) -> NDArray[np.float64]:
        """Scores of rows of keys of all fields, or of those that no member has shared; some rows at a time."""
        logits_B = np.zeros(len(keys_BS))
        for start in range(0, len(keys_BS), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            places_BS = self._places(keys_BS[part], fields_S)
            for member, theirs in zip(self.members, shared, strict=True):
                logits = member.network.logits(member.field_vectors(places_BS, fields_S), theirs)
                logits_B[part] += member.share * logits.astype(np.float64)
        return sigmoid(logits_B)

    def check(self) -> None:
        """Score the version's recorded rows and compare; a version from before there were any passes.

        Raises:
            IntegrityError: when they do not give the recorded scores.
        """
        if self._recorded is None and "recorded" not in self.manifest:
            return
        keys_RS, wanted_R = self._recorded_rows()
        off_R = np.abs(self.score_keys(keys_RS) - wanted_R)
        if self._compiled and not (off_R <= TOLERANCE).all():  # whatever ails compiled code, numpy is the reference
            self._compiled, self._engine = None, "numpy (compiled code does not give the recorded scores)"
            off_R = np.abs(self.score_keys(keys_RS) - wanted_R)
        if not (off_R <= TOLERANCE).all():
            raise IntegrityError(
                f"version {self.version} scores a recorded row {off_R.max():.3g} away from its recorded score, over "
                f"{TOLERANCE:g}; do not serve it: run saec verify, roll back to another version (saec versions)"
            )

    def _recorded_rows(self) -> tuple[Keys, NDArray[np.float64]]:
        """Keys and scores of the recorded rows."""
        origin, arrays = self.folder / RECORDED, {}
        if self._recorded is not None:
            arrays = tensors(self._recorded, origin)
        try:
            keys_RS, scores_R = arrays["keys_RS"], np.array(self.manifest["recorded"]["scores"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{origin} or the scores for it in the manifest are missing: {error}") from None
        if keys_RS.dtype != np.uint64 or keys_RS.shape != (*scores_R.shape, len(self._slot_fields_S)):
            raise IntegrityError(f"{origin} has keys {keys_RS.dtype} {keys_RS.shape} for {scores_R.shape} scores")
        return keys_RS, scores_R

    def _places(self, keys_BS: Keys, fields_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each key's codeword, -1 for padding, in the slots of some fields."""
        return places(self.codes(keys_BS, fields_S), self.counts_F, fields_S)


def _complete(folder: Path, files: dict[str, Buffer]) -> dict[str, Buffer]:
    """The files of a version, all there."""
    for name in (INDEX, CODEBOOKS, NETWORK, SCHEMA):
        if name not in files:
            raise IntegrityError(f"{folder / name} is not in the manifest: this is no version that saec can serve")
    return files


def _schema(data: Buffer, origin: Path) -> Schema:
    if len(data) > HEADER_LIMIT:
        raise IntegrityError(f"{origin} has {len(data):,} bytes, over the {HEADER_LIMIT:,} allowed; run saec verify")
    try:
        return parse_schema(bytes(data))
    except ValueError as error:
        raise IntegrityError(f"{origin} is not a schema that this saec reads: {error}; run saec verify") from None
