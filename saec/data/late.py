"""Detects late rows: tells rows that arrive after their hour was done from those already learnt, by their content.

Decisions: a row is identified by its time and feature keys, as 63 bits of keyed hash, so rewritten, merged or repeated
files are recognised. The last bit is the label, which distinguishes corrected rows from late ones. Of rows that differ
only in the label, one is kept.

Shapes: B rows, N distinct rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load, save

from saec.config import Config
from saec.data.distinct import distinct
from saec.data.hashing import Keys, field_key, hash_words
from saec.data.meaning import encoding
from saec.data.rows import EncodedRows
from saec.data.schema import schema_of
from saec.durable import write_file
from saec.hours import Hour

IDENTITIES_FILE = "identities.safetensors"
"""File in an hour's folder: the rows learnt with it, its own and late rows of other hours."""
_LABEL = np.uint64(1)
_ENCODING = "encoding"
"""In the file's header: the schema that made the keys; rows can be compared only under the same schema."""


@dataclass(frozen=True)
class Change:
    """The difference between an hour's delivery and the rows that were learnt."""

    rows: int
    """Rows learnt so far."""
    added: int
    """Rows that are new."""
    removed: int
    """Rows that have disappeared."""
    relabelled: int
    """Rows that have another label."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.relabelled)

    @property
    def unlearnt(self) -> bool:
        """Whether anything that was learnt is no longer valid."""
        return bool(self.removed or self.relabelled)

    def __str__(self) -> str:
        """For people.

        >>> str(Change(rows=1000, added=50, removed=0, relabelled=3))
        '50 rows came late; of the 1,000 learnt 0 are gone and 3 have another label (5.3% changed)'
        """
        said = f"{self.added:,} rows came late"
        if not self.rows:
            return said
        share = (self.added + self.removed + self.relabelled) / self.rows
        return (
            f"{said}; of the {self.rows:,} learnt {self.removed:,} are gone and {self.relabelled:,} have another "
            f"label ({share:.1%} changed)"
        )


def identities(config: Config, rows: EncodedRows) -> Keys:
    """What each row is, and in the last bit its label, uint64 [B]."""
    words_BW = np.column_stack([rows.times_B.view(np.uint64), rows.keys_BS])
    identity_B = hash_words(words_BW, field_key(config.data.hash_key, "identity of rows"))
    return (identity_B & ~_LABEL) | rows.labels_B


def compare(known_N: Keys, found_N: Keys) -> Change:
    """The difference between a delivery and the learnt rows; both as identities."""
    known_N, found_N = _distinct(known_N), _distinct(found_N)
    same = len(np.intersect1d(known_N & ~_LABEL, found_N & ~_LABEL, assume_unique=True))
    alike = len(np.intersect1d(known_N, found_N, assume_unique=True))
    return Change(len(known_N), len(found_N) - same, len(known_N) - same, same - alike)


def only_late(config: Config, rows: EncodedRows, known_N: Keys) -> NDArray[np.int64]:
    """Positions of the rows that are not known yet, each once, ascending."""
    identity_B = identities(config, rows) & ~_LABEL
    first = np.sort(np.unique(identity_B, return_index=True)[1])
    chosen: NDArray[np.int64] = first[~np.isin(identity_B[first], known_N & ~_LABEL)]
    return chosen


def _distinct(identity_N: Keys) -> Keys:
    """Each row once, whatever its label."""
    return identity_N[np.unique(identity_N & ~_LABEL, return_index=True)[1]]


def save_identities(config: Config, folder: Path, learnt: dict[Hour, Keys]) -> None:
    """Save which rows of which hours were learnt with the hour of a folder."""
    arrays = {hour.compact: distinct(identity_N) for hour, identity_N in learnt.items()}
    write_file(folder / IDENTITIES_FILE, save(arrays, {_ENCODING: encoding(schema_of(config))}))


def encoded_alike(config: Config, folder: Path) -> bool:
    """Whether the rows of a folder are recorded with keys that mean the same as the settings' keys."""
    path = folder / IDENTITIES_FILE
    if not path.exists():
        return True
    with safe_open(path, "numpy") as file:
        own = encoding(schema_of(config))
        return bool((file.metadata() or {}).get(_ENCODING, own) == own)


def load_identities(folder: Path, hour: Hour) -> Keys:
    """Rows of an hour that were learnt with the hour of a folder; none where nothing is known of them."""
    path = folder / IDENTITIES_FILE
    if not path.exists():
        return np.empty(0, np.uint64)
    return load(path.read_bytes()).get(hour.compact, np.empty(0, np.uint64))
