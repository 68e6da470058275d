"""From values to feature keys: the one encoding that training and serving share (numpy and `saec.data.hashing` only).

How values become features:
- integers and booleans by their value (integers above `cap` count as `cap`), strings by their bytes;
- numbers by their bucket, exactly, with no logarithm whose last bit depends on the machine;
- a list by its first `max_values` values, each a feature of the same field;
- hour of day (0 to 23) and day of week (Monday is 0) from the event's time;
- a cross by the keys of its parts.

Decisions: null is a reserved feature of its field. An empty list is another one, so that "nothing there" is learnt and
no field is ever all padding. Only distinct values are hashed; a `Column` carries them with an index.

Shapes: B rows, S slots, U distinct values, E values of all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saec.config import Config, FieldConfig
from saec.data.hashing import Keys, SipKey, field_key, hash_bytes, hash_int64, hash_words, reserved_feature
from saec.errors import InputError
from saec.hours import HOUR_MS

_DAY_MS = 24 * HOUR_MS
_THURSDAY = 3  # 1970-01-01, counted from Monday
_ZERO_BUCKET = 0
_BUCKET_SHIFT = 4096  # more than the logarithms of all doubles, so that a shifted bucket carries the sign


@dataclass(frozen=True)
class Column:
    """Values of one column: the distinct ones, and for each row which.

    Values need not be distinct: `Column(values, np.arange(len(values)))` is a column too, only slower to encode.

    >>> Column(np.array([7, 9]), np.array([0, 0, -1, 1])).index.tolist()  # 7, 7, null, 9
    [0, 0, -1, 1]
    """

    values: NDArray[np.generic] | Sequence[bytes]
    """[U] integers, floats or booleans, or a sequence of byte strings."""
    index: NDArray[np.integer]
    """Which value each row has, [B], or each place in the lists, [E]; -1 is null."""
    lengths_B: NDArray[np.int64] | None = None
    """Lengths of the rows' lists, -1 for a null in place of a list; None when the column holds no lists."""


class FeatureEncoder:
    """Encodes columns into the key matrix of a configuration.

    >>> from saec.config import load_config
    >>> encoder = FeatureEncoder(load_config("configs/globo.yaml"))
    """

    def __init__(self, config: Config) -> None:
        secret = config.data.hash_key
        self._fields = config.fields
        self._crosses = config.crosses
        self._keys = {name: field_key(secret, name) for name in config.field_names}
        self._null = {name: reserved_feature(secret, name, "null") for name in config.field_names}
        self._empty = {name: reserved_feature(secret, name, "empty") for name in config.field_names}

    def encode(self, columns: Mapping[str, Column], times_B: NDArray[np.int64]) -> Keys:
        """The key matrix of some rows.

        Args:
            columns: The fields' columns by name; further ones are passed over.
            times_B: int64 [B] times of the events, milliseconds since the epoch, UTC.

        Returns:
            uint64 [B, S], columns as in `Config.slot_fields`; 0 in the unused slots of lists and nowhere else.

        Raises:
            InputError: reason non-finite, when a numeric field has NaN or infinity.
        """
        keys = {field.name: self._field_keys(field, columns, times_B) for field in self._fields}
        for cross in self._crosses:
            name = "&".join(cross)
            parts_BC = np.concatenate([keys[part] for part in cross], axis=1)
            keys[name] = hash_words(parts_BC, self._keys[name])[:, None]
        return np.concatenate(list(keys.values()), axis=1)

    def truncated(self, columns: Mapping[str, Column]) -> int:
        """How many values of lists go unused, being beyond their field's `max_values`."""
        lists = ((field.max_values, columns[field.source_column].lengths_B)
                 for field in self._fields if field.source_column and field.kind == "list")
        return sum(int(np.maximum(lengths_B - limit, 0).sum()) for limit, lengths_B in lists if lengths_B is not None)

    def _field_keys(self, field: FieldConfig, columns: Mapping[str, Column], times_B: NDArray[np.int64]) -> Keys:
        """Keys of one field, [B, its slots]."""
        key = self._keys[field.name]
        if field.source_column is None:
            return _clock_keys(field, times_B, key)[:, None]
        column = columns[field.source_column]
        keys_U = np.append(_value_keys(field, column.values, key), np.uint64(self._null[field.name]))
        found: Keys = keys_U[column.index]  # -1 takes the last one: null
        if field.kind != "list":
            return found[:, None]
        if column.lengths_B is None:
            raise InputError(f"field {field.name!r} wants lists, {field.source_column!r} has none", reason="dtype")
        return self._list_keys(field, found, column.lengths_B)

    def _list_keys(self, field: FieldConfig, keys_E: Keys, lengths_B: NDArray[np.int64]) -> Keys:
        """The first values of each list, then padding; a reserved feature where there is no value at all."""
        held_B = np.maximum(lengths_B, 0)
        starts_B = np.cumsum(held_B) - held_B
        slots = np.arange(field.max_values)
        used_BL = slots < held_B[:, None]
        keys_BL = np.zeros(used_BL.shape, np.uint64)
        keys_BL[used_BL] = keys_E[(starts_B[:, None] + slots)[used_BL]]
        keys_BL[lengths_B == 0, 0] = self._empty[field.name]
        keys_BL[lengths_B < 0, 0] = self._null[field.name]
        return keys_BL


def opaque_bytes(text: str) -> bytes:
    r"""The bytes a text is hashed by: UTF-8 as it stands, lone surrogates included, nothing normalised.

    >>> opaque_bytes("é")
    b'\xc3\xa9'
    """
    return text.encode("utf-8", "surrogatepass")


def buckets(values_U: NDArray[np.float64], boundaries: Sequence[float]) -> NDArray[np.int64]:
    """Bucket of each finite number.

    With boundaries, bucket i holds boundaries[i-1] <= x < boundaries[i]. Without, buckets grow by a factor of the
    square root of two and keep the sign; zero has its own.

    >>> buckets(np.array([1.0, 1.4, 1.5, 2.0]), []) - buckets(np.array([1.0]), [])
    array([0, 0, 1, 2])
    """
    if boundaries:
        return np.searchsorted(np.asarray(boundaries), values_U, side="right").astype(np.int64)
    mantissa_U, exponent_U = np.frexp(np.abs(values_U))
    logarithm_U = 2 * exponent_U.astype(np.int64) + (mantissa_U >= np.sqrt(0.5))
    signed_U = np.sign(values_U).astype(np.int64) * (logarithm_U + _BUCKET_SHIFT)
    return np.where(values_U == 0, _ZERO_BUCKET, signed_U)


def _value_keys(field: FieldConfig, values: NDArray[np.generic] | Sequence[bytes], key: SipKey) -> Keys:
    """Key of each value of a field, [U]."""
    if field.type == "string":
        return hash_bytes(values, key)  # type: ignore[arg-type]  # the contract holds strings to be bytes
    values_U = np.asarray(values)
    if field.kind == "numeric":
        numbers_U = values_U.astype(np.float64)
        if not np.isfinite(numbers_U).all():
            raise InputError(f"field {field.name!r} wants finite numbers, found NaN or infinity", reason="non-finite")
        return hash_int64(buckets(numbers_U, field.boundaries), key)
    integers_U = values_U.astype(np.uint64 if values_U.dtype == np.uint64 else np.int64)
    return hash_int64(integers_U if field.cap is None else np.minimum(integers_U, field.cap), key)


def _clock_keys(field: FieldConfig, times_B: NDArray[np.int64], key: SipKey) -> Keys:
    """Keys of a field that is derived from the event's time, [B]."""
    if field.kind == "hour_of_day":
        return hash_int64(np.arange(24), key)[times_B % _DAY_MS // HOUR_MS]
    return hash_int64(np.arange(7), key)[(times_B // _DAY_MS + _THURSDAY) % 7]
