"""Formats values for people; an unknown value is an en dash.

Decisions: sizes are decimal (1 kB = 1000 B), ratios have three significant digits, differences always have a sign. Text
from outside (file names, values of bad rows) is stripped of everything that does not print, so that it cannot forge the
output of a terminal or page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saec.report.records import finite

DASH = "–"
MINUS = "−"


def decimal(value: object, places: int = 4) -> str:
    """A metric: `0.7402`."""
    known = finite(value)
    return DASH if known is None else f"{known:.{places}f}".replace("-", MINUS)


def signed(value: object, places: int = 4) -> str:
    """A difference: `+0.0027`, `−0.0014`."""
    known = finite(value)
    return DASH if known is None else f"{known:+.{places}f}".replace("-", MINUS)


def count(value: object) -> str:
    """A number of things: `1,253,637`."""
    known = finite(value)
    return DASH if known is None else f"{known:,.0f}".replace("-", MINUS)


def percent(value: object) -> str:
    """A share in per cent, to a tenth below ten: `6.2 %`, `97 %`, and exactly nothing is `0 %`."""
    known = finite(value)
    if known is None:
        return DASH
    return f"{100 * known:,.{1 if 0 < abs(known) < 0.0995 else 0}f} %".replace("-", MINUS)


def times(value: object) -> str:
    """A reduction ratio in three digits: `658×`, `27.7×`."""
    known = finite(value)
    if known is None:
        return DASH
    return f"{known:,.{0 if known >= 99.95 else 1 if known >= 9.995 else 2}f}×"


def size(value: object) -> str:
    """A number of bytes: `161 MB`, `4.46 GB`."""
    known = finite(value)
    if known is None:
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if known < 999.5:
            return f"{known:.0f} {unit}" if unit == "B" else f"{known:.3g} {unit}"
        known /= 1000
    return f"{known:,.3g} TB" if known < 999.5 else f"{known:,.0f} TB"


def duration(value: object) -> str:
    """Seconds: `4.2 s`, `63 s`, `12 min`, `2.5 h`."""
    known = finite(value)
    if known is None:
        return DASH
    if known < 9.95:
        return f"{known:.1f} s"
    if known < 119.5:
        return f"{known:.0f} s"
    return f"{known / 60:.0f} min" if known < 7170 else f"{known / 3600:.1f} h"


def vectors(known: Mapping[str, Any]) -> str:
    """Vectors before and after, of a record: `551,000 → 4,100`."""
    return f"{count(known.get('vectors_original'))} → {count(known.get('vectors_compressed'))}"


def stored(known: Mapping[str, Any]) -> str:
    """Bytes before and after, of a record: `39.7 MB → 356 kB`."""
    return f"{size(known.get('bytes_original'))} → {size(known.get('bytes_compressed'))}"


def plain(value: object) -> str:
    """Text from outside in one line: whatever does not print (controls, surrogates, direction marks) becomes `�`."""
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(str(value).split()))


def lines(value: object) -> str:
    """Text from outside in the lines that it has, each as `plain`."""
    return "\n".join(plain(line) for line in str(value).splitlines())


def plural(number: int, thing: str) -> str:
    """`1 hour`, `24 hours`."""
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"
