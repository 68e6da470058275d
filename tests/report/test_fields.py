"""The figures of the codebooks, field by field, from records that may be old, half filled or hostile."""

from __future__ import annotations

from typing import Any

import pytest

from saec.report.fields import HEAD, by_field, field_rows, life

CODED = {"head": 40.0, "clusters": 8.0, "used": 6.0, "largest_share": 0.5, "error": 0.2, "drift": 0.3, "rebuilt": 1.0}
BARE = dict.fromkeys(CODED, 0.0)


def test_a_row_has_a_cell_for_each_heading() -> None:
    """Also where a field has no code, and where its figures are missing."""
    rows = field_rows({"fields": {"a": CODED, "b": BARE, "c": {}}})
    assert rows[0] == ["a", "40", "8", "75 %", "50 %", "20 %", "30 %", "yes"]
    assert [len(row) for row in rows] == [len(HEAD)] * 3
    assert rows[2][1:] == ["–"] * (len(HEAD) - 1)


@pytest.mark.parametrize("found", [None, [], "x", 5, {}, {"a": None}, {"a": [1]}])
def test_what_is_no_mapping_of_fields_is_not_known(found: Any) -> None:
    """Such a record has no fields and no means."""
    record = {"fields": found}
    assert by_field(record) == {}
    assert life(record) == {"error": None, "drift": None}


def test_means_leave_out_fields_without_a_code() -> None:
    """A field without clusters has no error; an error of 0 of a field that has some counts."""
    direct = CODED | {"error": 0.0, "drift": float("nan")}
    assert life({"fields": {"a": CODED, "b": BARE, "c": direct}}) == {"error": 0.1, "drift": 0.3}


def test_names_of_fields_print() -> None:
    """Controls and line ends of a name do not reach a page."""
    assert field_rows({"fields": {"a\x1b[31m\nb": CODED}})[0][0] == "a�[31m b"
