"""Compares the meaning of feature keys between two schemas; meaning depends on more than a field's name.

A key is a hash of a field's name and a value, so a field with other boundaries, another cap or another column gives
keys that look the same and mean something else. What was learnt under a key is valid only if these agree:

    field          kind, type and the column it is read from; a numeric field's boundaries, an integer's cap
    clock          kind and the time column
    cross          all of that of its parts
    every field    the hash key

Decisions: whether nulls are allowed does not change the meaning. The number of values used of a list, and the order of
the fields, change the layout of the rows but not the meaning of a key. Both can be carried over, but only explicitly.

Shapes: F fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from saec.data.schema import Field, Schema
from saec.layout import CLOCKS

LABEL = "label_column"
"""Used instead of a field's name for the label."""
What = Literal["kept", "moved", "added", "removed", "changed"]
Definition = dict[str, Any]


@dataclass(frozen=True)
class FieldChange:
    """The change of one field."""

    name: str
    what: What
    """Kept; moved to another place among the kept ones; added; removed; changed in meaning, so a new one."""
    why: str = ""
    """What differs, old and new; empty where nothing does."""

    def __str__(self) -> str:
        """For people.

        >>> str(FieldChange("price", "changed", "boundaries were [1.0], are [2.0]"))
        "field 'price' is changed: boundaries were [1.0], are [2.0]"
        """
        become = "" if self.what == "kept" else f" is {self.what}"
        return f"field {self.name!r}{become}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class Comparison:
    """A schema that something was learnt with, compared with that of the settings."""

    old: Schema
    new: Schema
    fields: tuple[FieldChange, ...]
    """Fields of the new schema in their order, then those that were removed."""
    lasting: tuple[str, ...]
    """Other differences, which rule out carrying over: the label's column, sizes and kind of the network."""

    @property
    def alike(self) -> bool:
        """Whether what was learnt with the old schema is valid unchanged."""
        return not self.lasting and all(change.what == "kept" and not change.why for change in self.fields)

    @property
    def sources_F(self) -> tuple[int, ...]:
        """For each field of the new schema its place in the old one, -1 for a new field."""
        places = {name: place for place, name in enumerate(self.old.field_names)}
        return tuple(
            places[change.name] if change.what in ("kept", "moved") else -1
            for change in self.fields
            if change.what != "removed"
        )

    @property
    def differences(self) -> tuple[str, ...]:
        """Everything that differs, for people."""
        return (*self.lasting, *(str(change) for change in self.fields if change.what != "kept" or change.why))


def compare(old: Schema, new: Schema, keep: Collection[str] = ()) -> Comparison:
    """Compare two schemas.

    Args:
        old: by which something was learnt.
        new: of the settings.
        keep: fields, or `LABEL`, whose column has only been renamed.
    """
    lasting = [f"model.{name} was {_shown(was)}, is {_shown(now)}" for name, was, now in _layouts(old, new)]
    if old.label_column != new.label_column and LABEL not in keep:
        lasting.append(f"data.{LABEL} was {old.label_column!r}, is {new.label_column!r}")
    before = {name: definition(old, name) for name in old.field_names}
    changes = [_change(old, new, name, before.get(name), frozenset(keep)) for name in new.field_names]
    kept = [change.name for change in changes if change.what == "kept"]
    if kept != [name for name in old.field_names if name in kept]:
        changes = [
            FieldChange(change.name, "moved", change.why) if change.what == "kept" else change for change in changes
        ]
    removed = [FieldChange(name, "removed") for name in old.field_names if name not in new.field_names]
    return Comparison(old, new, (*changes, *removed), tuple(lasting))


def definition(schema: Schema, name: str) -> Definition:
    """What the keys of a field or cross mean; equal ones mean the same, under the same hash key."""
    fields = {field.name: field for field in schema.fields}
    if name in fields:
        return _field_definition(fields[name], schema)
    return {part: definition(schema, part) for part in name.split("&")}


def encoding(schema: Schema) -> str:
    """A short digest of all that makes a raw row into keys: schemas that agree in it give the same key matrix."""
    fields = [[name, definition(schema, name)] for name in schema.field_names]
    lengths = [field.max_values for field in schema.fields if field.kind == "list"]
    return _digest([schema.hash_key, fields, lengths])


def fingerprint(schema: Schema) -> str:
    """A short digest of everything in a schema that learnt state depends on."""
    # A start of 0 is left out: permits from before it was a setting stay valid.
    layout = [getattr(schema.model, name) for name in _LAYOUT if name != "first_order" or schema.model.first_order]
    return _digest([encoding(schema), schema.label_column, layout])


_LAYOUT = ("network", "width", "hidden", "cross_layers", "cross_rank", "first_order")
"""Settings of the network that say how large it is and how it starts; others only say how it is trained on."""


def _layouts(old: Schema, new: Schema) -> Iterator[tuple[str, Any, Any]]:
    """Each size and start of the network that differs, with what it was and is."""
    for name in _LAYOUT:
        was, now = getattr(old.model, name), getattr(new.model, name)
        if was != now and not (name.startswith("cross_") and old.model.network == new.model.network != "dcnv2"):
            yield name, was, now


def _field_definition(field: Field, schema: Schema) -> Definition:
    if field.kind in CLOCKS:
        return {"kind": field.kind, "column": schema.time_column}
    found: Definition = {"kind": field.kind, "type": field.type, "column": field.source_column}
    if field.kind == "numeric":
        return found | {"boundaries": list(field.boundaries)}
    return found | {"cap": field.cap}


def _change(old: Schema, new: Schema, name: str, was: Definition | None, keep: frozenset[str]) -> FieldChange:
    """The change of a field of the new schema."""
    if was is None:
        return FieldChange(name, "added")
    if old.hash_key != new.hash_key:
        return FieldChange(name, "changed", "data.hash_key is another one")
    now = definition(new, name)
    if "&" in name:  # a cross: what differs is told of its parts
        changed = [part for part in now if _change(old, new, part, was[part], keep).what == "changed"]
        why = f"its part {' and '.join(map(repr, changed))} is" if changed else ""
        return FieldChange(name, "changed" if changed else "kept", why)
    differing = [what for what in dict.fromkeys((*was, *now)) if was.get(what) != now.get(what)]
    said = [_was_and_is(what, was.get(what), now.get(what)) for what in differing]
    if now["kind"] == was["kind"] == "list" and (lengths := _lengths(old, new, name))[0] != lengths[1]:
        said.append(_was_and_is("max_values", *lengths))
    renamed = name in keep and differing == ["column"]
    return FieldChange(name, "changed" if differing and not renamed else "kept", ", ".join(said))


def _lengths(old: Schema, new: Schema, name: str) -> tuple[int, ...]:
    """Most values of a list that are used, then and now."""
    return tuple(field.max_values for schema in (old, new) for field in schema.fields if field.name == name)


def _was_and_is(what: str, was: Any, now: Any) -> str:
    """What a setting was and is.

    >>> _was_and_is("cap", None, 3)
    'cap was none, is 3'
    """
    return (
        f"{what} were {_shown(was)}, are {_shown(now)}"
        if what == "boundaries"
        else f"{what} was {_shown(was)}, is {_shown(now)}"
    )


def _shown(value: Any) -> str:
    """A setting's value as it stands in the settings."""
    if value in (None, [], ()):
        return "none"
    text = str(list(value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
