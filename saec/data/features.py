"""Encodes values as feature keys, for training and serving alike (with only numpy and `saec.data.hashing`).

How values become features:
- integers and booleans by their value (integers above `cap` count as `cap`), strings by their bytes;
- numbers by their bucket, exactly, with no logarithm whose last bit depends on the machine; those of a field of floats,
  and its boundaries, as the nearest 32-bit float, so that a float32 column and JSON's 0.7 agree on which side they are;
- a list by its first `max_values` values, each a feature of the same field;
- hour of day (0 to 23) and day of week (Monday is 0) from the event's time;
- a cross by the keys of its parts.

Decisions: null is a reserved feature of its field. An empty list is another one, so that "nothing there" is learnt and
no field is ever all padding. Only distinct values are hashed; a `Column` carries them with an index. The values of all
fields are hashed in one call, the crosses of as many parts in another, each under its field's key: a request of few
rows costs calls, not values (of an hour, each on its own: the values of one field are many enough, and memory counts).

Shapes: B rows, S slots, F fields, U distinct values, N values of several fields, E values of all lists together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from saec.data.hashing import Keys, field_key, hash_bytes, hash_int64, hash_words, reserved_feature
from saec.errors import InputError
from saec.hours import HOUR_MS
from saec.layout import CLOCKS, single

if TYPE_CHECKING:
    from saec.config import Config, FieldConfig
    from saec.data.schema import Field, Schema

Values = TypeVar("Values", bound=Sized)
_DAY_MS = 24 * HOUR_MS
_THURSDAY = 3  # 1970-01-01, counted from Monday
_TOGETHER = 65_536  # values of all fields together that are hashed in one call: more than any request has
_ZERO_BUCKET = 0
_BUCKET_SHIFT = 4096  # more than the logarithms of all doubles, so that a shifted bucket carries the sign


@dataclass(frozen=True)
class Column:
    """Values of one column: the distinct ones, and for each row which.

    Values need not be distinct: `Column(values)` is a column too, slower to encode where many are alike.

    >>> Column(np.array([7, 9]), np.array([0, 0, -1, 1])).index.tolist()  # 7, 7, null, 9
    [0, 0, -1, 1]
    """

    values: NDArray[np.generic] | Sequence[bytes]
    """[U] integers, floats or booleans, or a sequence of byte strings."""
    index: NDArray[np.integer] | None = None
    """Which value each row has, [B], or each place in the lists, [E]; -1 is null. None: the values as they stand."""
    lengths_B: NDArray[np.int64] | None = None
    """Lengths of the rows' lists, -1 for a null in place of a list; None when the column holds no lists."""


class FeatureEncoder:
    """Encodes columns into the key matrix of a configuration.

    >>> from saec.settings_file import load_config
    >>> encoder = FeatureEncoder(load_config("configs/globo.yaml"))
    """

    def __init__(self, rules: Config | Schema) -> None:
        secret, names = rules.hash_key, rules.field_names
        self._fields = rules.fields
        self._crosses = {"&".join(cross): cross for cross in rules.crosses}
        lengths = sorted({len(cross) for cross in rules.crosses})
        self._alike = [[name for name, cross in self._crosses.items() if len(cross) == length] for length in lengths]
        self._keys = {name: np.array([[half] for half in field_key(secret, name)], np.uint64) for name in names}
        self._null = {name: np.uint64(reserved_feature(secret, name, "null")) for name in names}
        self._empty = {name: np.uint64(reserved_feature(secret, name, "empty")) for name in names}
        self._clock = {
            field.name: hash_int64(np.arange(CLOCKS[field.kind]), self._keys[field.name])
            for field in rules.fields
            if field.kind in CLOCKS
        }

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
        return np.concatenate(self.encode_fields(columns, times_B), axis=1)

    def encode_fields(self, columns: Mapping[str, Column], times_B: NDArray[np.int64]) -> list[Keys]:
        """Keys of each field and cross, [B, its slots]; [1, its slots] where all that it reads has a single row."""
        keys_of = self._value_keys(
            {field.name: columns[field.source_column] for field in self._fields if field.source_column is not None}
        )
        keys: dict[str, Keys] = {}
        for field in self._fields:
            if field.source_column is None:
                keys[field.name] = self._clock[field.name][_on_the_clock(field.kind, times_B)][:, None]
            else:
                keys[field.name] = self._row_keys(field, columns[field.source_column], keys_of[field.name])
        return list((keys | self._cross_keys(keys)).values())

    def truncated(self, columns: Mapping[str, Column]) -> int:
        """How many values of lists go unused, being beyond their field's `max_values`."""
        lists = (
            (field.max_values, columns[field.source_column].lengths_B)
            for field in self._fields
            if field.source_column and field.kind == "list"
        )
        return sum(int(np.maximum(lengths_B - limit, 0).sum()) for limit, lengths_B in lists if lengths_B is not None)

    def _value_keys(self, columns: dict[str, Column]) -> dict[str, Keys]:
        """Key of each value of each field's column, [U]."""
        texts: dict[str, Sequence[bytes]] = {}
        words: dict[str, Keys] = {}
        for field in self._fields:
            if field.name in columns and field.type == "string":
                texts[field.name] = columns[field.name].values  # type: ignore[assignment]  # by the contract
            elif field.name in columns:
                words[field.name] = _words(field, columns[field.name].values)[:, None]
        keys = self._hashed(texts, hash_bytes, lambda parts: list(chain.from_iterable(parts)))
        return keys | self._hashed(words, hash_words, np.concatenate)

    def _cross_keys(self, keys: dict[str, Keys]) -> dict[str, Keys]:
        """Keys of the crosses, [B, 1], or [1, 1] of parts that have a single row."""
        found: dict[str, Keys] = {}
        rows = max(map(len, keys.values()))
        for names in self._alike if rows * len(self._crosses) <= _TOGETHER else ([name] for name in self._crosses):
            parts = {
                name: np.concatenate(np.broadcast_arrays(*(keys[part] for part in self._crosses[name])), axis=1)
                for name in names
            }
            found |= self._hashed(parts, hash_words, np.concatenate)
        return {name: found[name][:, None] for name in self._crosses}

    def _hashed(
        self, values: dict[str, Values], rule: Callable[..., Keys], joined: Callable[[list[Values]], object]
    ) -> dict[str, Keys]:
        """Keys of the values of several fields: by one call for all of them where they are few."""
        counts = [len(messages) for messages in values.values()]
        if sum(counts) > _TOGETHER:
            return {name: rule(messages, self._keys[name]) for name, messages in values.items()}
        if not values:
            return {}
        key_2N = np.repeat(np.concatenate([self._keys[name] for name in values], axis=1), counts, axis=1)
        keys_N = rule(joined(list(values.values())), key_2N)
        return {
            name: keys_N[end - count : end] for name, count, end in zip(values, counts, accumulate(counts), strict=True)
        }

    def _row_keys(self, field: FieldConfig | Field, column: Column, keys_U: Keys) -> Keys:
        """Keys of one field, [B, its slots]."""
        found = keys_U
        if column.index is not None:
            found = np.append(keys_U, self._null[field.name])[column.index]  # -1 takes the last one: null
        if field.kind != "list":
            return found[:, None]
        if column.lengths_B is None:
            raise InputError(f"field {field.name!r} wants lists, {field.source_column!r} has none", reason="dtype")
        return self._list_keys(field, found, column.lengths_B)

    def _list_keys(self, field: FieldConfig | Field, keys_E: Keys, lengths_B: NDArray[np.int64]) -> Keys:
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


def singles(values_U: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest 32-bit float of each finite number; what is larger than all of them counts as the largest.

    >>> singles(np.array([0.5, 0.7])) == [0.5, 0.7]
    array([ True, False])
    """
    largest = float(np.finfo(np.float32).max)
    return np.clip(values_U, -largest, largest).astype(np.float32).astype(np.float64)


def _words(field: FieldConfig | Field, values: NDArray[np.generic] | Sequence[bytes]) -> Keys:
    """The 64 bits of each value that a field of numbers hashes, [U]."""
    values_U = np.asarray(values)
    if field.kind == "numeric":
        numbers_U = values_U.astype(np.float64)
        if not np.isfinite(numbers_U).all():
            raise InputError(f"field {field.name!r} wants finite numbers, found NaN or infinity", reason="non-finite")
        if field.type == "float":
            return buckets(singles(numbers_U), [single(edge) for edge in field.boundaries]).view(np.uint64)
        return buckets(numbers_U, field.boundaries).view(np.uint64)
    integers_U = values_U.astype(np.uint64 if values_U.dtype == np.uint64 else np.int64)
    capped_U = integers_U if field.cap is None else np.minimum(integers_U, field.cap)
    return capped_U.astype(integers_U.dtype, copy=False).view(np.uint64)


def _on_the_clock(kind: str, times_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hour of the day (0 to 23) or day of the week (Monday is 0) of each time."""
    return times_B % _DAY_MS // HOUR_MS if kind == "hour_of_day" else (times_B // _DAY_MS + _THURSDAY) % 7
