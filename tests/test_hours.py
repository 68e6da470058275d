"""The hour as a value."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.errors import ConfigError
from saec.hours import Hour, hour_range

HOURS = st.integers(0, 1_000_000).map(Hour)


@given(HOURS)
def test_every_text_form_reads_back(hour):
    """The form for people, the compact one and the evaluated one are the same hour."""
    assert Hour.parse(str(hour)) == Hour.parse(hour.compact) == hour
    assert eval(repr(hour)) == hour


@pytest.mark.parametrize(
    "text",
    ["2017-10-01T03", "20171001T03", "2017-10-01 03", "2017-10-01T03:00", "2017-10-01 03:00:00Z", " 2017-10-01T03Z\n"],
)
def test_accepted_forms(text):
    """All are the same hour, and it prints in one way."""
    assert str(Hour.parse(text)) == "2017-10-01T03"
    assert Hour.parse(text).compact == "20171001T03"


@pytest.mark.parametrize(
    "text",
    ["", "now", "2017-10-01", "2017-10-01T3", "2017-10-01T03:30", "2017-10-01T03:00:01", "2017-10-01T03+02:00", "1e9"],
)
def test_other_texts_are_refused(text):
    """The message shows the text and the form that is wanted."""
    with pytest.raises(ConfigError) as caught:
        Hour.parse(text)
    assert repr(text) in str(caught.value)
    assert "2017-10-01T03" in str(caught.value)


@pytest.mark.parametrize("text", ["2017-02-29T03", "2017-10-01T24", "2017-13-01T00", "0000-01-01T00"])
def test_hours_that_do_not_exist_are_refused(text):
    """A date that no calendar has is named."""
    with pytest.raises(ConfigError, match=f"{text}.*does not exist"):
        Hour.parse(text)


@given(HOURS, st.integers(0, 3599))
def test_a_moment_falls_in_its_hour(hour, second):
    """From its first second to its last, in any time zone."""
    moment = hour.start + timedelta(seconds=second)
    assert Hour.of(moment) == hour
    assert Hour.of(moment.astimezone(timezone(timedelta(hours=5, minutes=30)))) == hour


def test_a_moment_without_zone_is_refused():
    """Local time would be a guess."""
    with pytest.raises(ConfigError, match="no time zone"):
        Hour.of(datetime(2017, 10, 1, 3))  # noqa: DTZ001


def test_arithmetic_and_order():
    """Hours are added, subtracted and compared over the ends of days; start and milliseconds agree."""
    hour = Hour.parse("2017-12-31T23")
    assert str(hour + 1) == "2018-01-01T00"
    assert hour + 1 - 1 == hour < hour + 1
    assert hour.start == datetime(2017, 12, 31, 23, tzinfo=UTC)
    assert hour.start_ms == hour.start.timestamp() * 1000
    assert [str(each) for each in hour_range(hour, hour + 1)] == ["2017-12-31T23", "2018-01-01T00"]
    assert list(hour_range(hour, hour - 1)) == []


def test_now_is_the_hour_of_the_clock():
    """The current hour began at most an hour ago."""
    assert timedelta(0) <= datetime.now(UTC) - Hour.now().start <= timedelta(hours=1, seconds=5)
