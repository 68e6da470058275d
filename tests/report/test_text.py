"""Values as people read them."""

from __future__ import annotations

import math

import pytest

from saec.report import text


@pytest.mark.parametrize(
    "write", [text.decimal, text.signed, text.count, text.percent, text.times, text.size, text.duration]
)
@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, "7", True])
def test_what_is_not_a_number_is_a_dash(write: object, unknown: object) -> None:
    """None, NaN, infinity and values of another type are all "not known"."""
    assert callable(write)
    assert write(unknown) == "–"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (text.decimal(0.74021), "0.7402"),
        (text.signed(0.0027), "+0.0027"),
        (text.signed(-0.0014), "−0.0014"),
        (text.percent(0.0616), "6.2 %"),
        (text.percent(0.0996), "10 %"),
        (text.percent(0.0), "0 %"),
        (text.percent(0.00004), "0.0 %"),
        (text.percent(1.5), "150 %"),
        (text.percent(-0.02), "−2.0 %"),
        (text.count(1253637), "1,253,637"),
        (text.times(658.2), "658×"),
        (text.times(27.7), "27.7×"),
        (text.times(99.96), "100×"),
        (text.times(1937), "1,937×"),
        (text.times(9.996), "10.0×"),
        (text.size(161e6), "161 MB"),
        (text.size(4.46e9), "4.46 GB"),
        (text.size(999), "999 B"),
        (text.size(999_600), "1 MB"),
        (text.size(3e15), "3,000 TB"),
        (text.duration(4.21), "4.2 s"),
        (text.duration(63), "63 s"),
        (text.duration(725), "12 min"),
        (text.duration(9000), "2.5 h"),
    ],
)
def test_numbers_are_written_with_three_digits_and_a_unit(written: str, wanted: str) -> None:
    """The unit changes where the number would get a fourth digit."""
    assert written == wanted


def test_plain_text_is_one_harmless_line() -> None:
    """Line breaks become spaces; escapes, direction marks and lone surrogates become a visible replacement."""
    assert text.plain("a\n b\x1b[2J \u202ecba \ud800 é") == "a b�[2J �cba � é"
