"""The schema of a version: how raw rows become keys, and the shape of the network that scores them.

Decisions: it records the settings that the version was trained with, as plain frozen dataclasses, so that serving needs
no pydantic. The file is not trusted: names, kinds and numbers are checked one by one.

Shapes: S slots.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from saec import layout
from saec.data.types import TICKS, Want, field_want

if TYPE_CHECKING:
    from saec.config import Config

FORMAT = 3
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", re.ASCII)
_KINDS = ("categorical", "numeric", "list", "hour_of_day", "day_of_week")
_TYPES = ("int", "string", "float", "bool")
_NETWORKS = ("deepfm", "dcnv2")
_MOST_UNITS = 1 << 24
"""Most units of a layer; more than any file of ours could hold."""
_SECTIONS: dict[str, bool | set[str]] = {
    "data": {"time_column", "label_column", "hash_key", "time_unit"},
    "fields": True,
    "crosses": True,
    "model": True,
}
"""The settings that a schema contains."""


@dataclass(frozen=True)
class Field:
    """One field of the model; `saec.config.FieldConfig` says what each setting means."""

    name: str
    kind: str
    column: str | None
    type: str
    nullable: bool
    cap: int | None
    boundaries: tuple[float, ...]
    max_values: int

    @property
    def source_column(self) -> str | None:
        """The column this field reads, or None for a field derived from the event's time."""
        return layout.source_column(self)

    @property
    def slots(self) -> int:
        """Columns this field takes in the key matrix."""
        return layout.slots(self)


@dataclass(frozen=True)
class NetworkLayout:
    """Kind and sizes of the network; `saec.config.ModelConfig` says what each setting means."""

    network: str
    width: int
    hidden: tuple[int, ...]
    logit_cap: float
    cross_layers: int
    cross_rank: int
    first_order: float = 0.0


@dataclass(frozen=True)
class Schema:
    """The contents of a version's `schema.json`."""

    fields: tuple[Field, ...]
    crosses: tuple[tuple[str, ...], ...]
    hash_key: str
    time_column: str
    label_column: str
    model: NetworkLayout
    time_unit: str | None = None

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """Names of all fields of the model: the declared ones, then the crosses."""
        return layout.field_names(self.fields, self.crosses)

    @cached_property
    def slot_fields(self) -> tuple[int, ...]:
        """For each of the S columns of the key matrix, the index of its field."""
        return layout.slot_fields(self.fields, self.crosses)

    @cached_property
    def readers(self) -> dict[str, Field | None]:
        """The columns that a row is read from, each with the field that says what it must be; None for the time."""
        readers: dict[str, Field | None] = {}
        for field in self.fields:
            if field.source_column is None:
                readers[self.time_column] = None
            elif field.nullable or field.source_column not in readers:
                readers[field.source_column] = field
        return readers

    @cached_property
    def wants(self) -> dict[str, Want]:
        """What is wanted of each of these columns."""
        return {
            name: Want("time", unit=self.time_unit) if field is None else field_want(field)
            for name, field in self.readers.items()
        }

    @cached_property
    def columns(self) -> dict[str, str]:
        """The columns that a row is read from, each with its required type in words."""
        return {
            name: str(self.wants[name])
            if field is None
            else f"{'list of ' * (field.kind == 'list')}{field.type}{' or null' * field.nullable}"
            for name, field in self.readers.items()
        }


def schema_text(config: Config) -> str:
    """The schema of the settings, as `schema.json` has it."""
    said = {"format": FORMAT, **config.model_dump(mode="json", include=_SECTIONS)}
    for field in said["fields"]:
        field["nullable"] = bool(field["nullable"])  # up to which share is a matter of the hour
    if said["data"]["time_unit"] is None:  # versions of times that are timestamps stay as they were, to the byte
        del said["data"]["time_unit"]
    if not said["model"]["first_order"]:  # nor do those of networks that start with none
        del said["model"]["first_order"]
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def schema_of(config: Config) -> Schema:
    """The schema of the settings, as a reader of a version gets it."""
    return parse_schema(schema_text(config).encode())


def parse_schema(data: bytes) -> Schema:
    """Read a schema, trusting nothing in it.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        raw = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _only(raw, "schema", {"format", "data", "fields", "crosses", "model"})
    if type(raw["format"]) is not int or raw["format"] != FORMAT:
        raise ValueError(f"it is of another format than {FORMAT}; score it with the saec that published it")
    data_section = {"time_unit": None} | raw["data"] if isinstance(raw["data"], dict) else raw["data"]
    _only(data_section, "data", {"time_column", "label_column", "hash_key", "time_unit"})
    fields = tuple(_field(entry) for entry in _checked(raw, "fields", list))
    schema = Schema(
        fields=fields,
        crosses=tuple(tuple(cross) for cross in _checked(raw, "crosses", list) if _is_list_of(cross, str, "crosses")),
        hash_key=_checked(data_section, "hash_key", str),
        time_column=_name(data_section, "time_column"),
        label_column=_name(data_section, "label_column"),
        model=_layout(raw["model"]),
        time_unit=None if data_section["time_unit"] is None else _one_of(data_section, "time_unit", tuple(TICKS)),
    )
    _check_names(schema)
    return schema


def _field(entry: object) -> Field:
    """One field."""
    raw = _only(entry, "field", {"name", "kind", "column", "type", "nullable", "cap", "boundaries", "max_values"})
    boundaries = _checked(raw, "boundaries", list)
    _is_list_of(boundaries, (int, float), "boundaries")
    field = Field(
        name=_name(raw, "name"),
        kind=_one_of(raw, "kind", _KINDS),
        column=None if raw["column"] is None else _name(raw, "column"),
        type=_one_of(raw, "type", _TYPES),
        nullable=_checked(raw, "nullable", bool),
        cap=None if raw["cap"] is None else _number(raw, "cap", 0, 2**63 - 1),
        boundaries=tuple(float(edge) for edge in boundaries),
        max_values=_number(raw, "max_values", 1, 256),
    )
    _check_field(field)
    return field


def _check_field(field: Field) -> None:
    """Refuse inconsistent settings, as the configuration does."""
    if field.kind == "numeric" and field.type not in ("int", "float"):
        raise ValueError(f"numeric field {field.name!r} needs type int or float, got {field.type}")
    if field.kind in ("categorical", "list") and field.type == "float":
        raise ValueError(f"field {field.name!r} of floats must be numeric, got {field.kind}")
    if not all(map(math.isfinite, field.boundaries)) or list(field.boundaries) != sorted(set(field.boundaries)):
        raise ValueError(f"boundaries of field {field.name!r} must ascend without repeats")
    if field.cap is not None and field.type != "int":
        raise ValueError(f"cap of field {field.name!r} needs type int, got {field.type}")


def _layout(entry: object) -> NetworkLayout:
    """The network's layout."""
    given = {"first_order": 0.0} | entry if isinstance(entry, dict) else entry
    raw = _only(given, "model", set(NetworkLayout.__dataclass_fields__))
    hidden = _checked(raw, "hidden", list)
    for name in ("logit_cap", "first_order"):
        if type(raw[name]) not in (int, float) or not 0 <= raw[name] < math.inf:
            raise ValueError(f"model.{name}: wanted a number of at least 0, found {raw[name]!r}")
    return NetworkLayout(
        network=_one_of(raw, "network", _NETWORKS),
        width=_number(raw, "width", 2, 256),
        hidden=tuple(_number({"hidden": units}, "hidden", 1, _MOST_UNITS) for units in hidden),
        logit_cap=float(raw["logit_cap"]),
        cross_layers=_number(raw, "cross_layers", 1, 8),
        cross_rank=_number(raw, "cross_rank", 1, _MOST_UNITS),
        first_order=float(raw["first_order"]),
    )


def _check_names(schema: Schema) -> None:
    """Refuse names that stand for two things, and crosses of what is not there."""
    kinds = {field.name: field.kind for field in schema.fields}
    if not kinds or len(set(schema.field_names)) != len(schema.fields) + len(schema.crosses):
        raise ValueError("it has no fields, or two of the same name")
    for cross in schema.crosses:
        if not 2 <= len(cross) <= 8 or any(kinds.get(name, "list") == "list" for name in cross):
            raise ValueError(f"cross {'&'.join(cross)[:200]!r} wants 2 to 8 fields that are no lists")


def _only(raw: object, where: str, keys: set[str]) -> dict[str, Any]:
    """An object of exactly these keys."""
    if not isinstance(raw, dict) or raw.keys() != keys:
        found = sorted(map(str, raw))[:9] if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f"{where}: wanted {', '.join(sorted(keys))}, found {found}")
    return raw


def _checked(raw: Mapping[str, Any], key: str, kind: type) -> Any:
    """The value of a key, of exactly this type."""
    if type(raw[key]) is not kind:
        raise ValueError(f"{key}: wanted {kind.__name__}, found {type(raw[key]).__name__}")
    return raw[key]


def _is_list_of(values: object, kind: type | tuple[type, ...], where: str) -> bool:
    """True for a list of such values; anything else raises."""
    if not isinstance(values, list) or any(not isinstance(value, kind) or value is True for value in values):
        raise ValueError(f"{where}: wanted lists of {kind}")
    return True


def _number(raw: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value: int = _checked(raw, key, int)
    if not least <= value <= most:
        raise ValueError(f"{key}: wanted {least} to {most}, found {value}")
    return value


def _name(raw: Mapping[str, Any], key: str) -> str:
    value: str = _checked(raw, key, str)
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{key}: {value[:64]!r} is no name")
    return value


def _one_of(raw: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value: str = _checked(raw, key, str)
    if value not in choices:
        raise ValueError(f"{key}: wanted one of {', '.join(choices)}, found {value[:64]!r}")
    return value
