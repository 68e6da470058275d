"""The HTML report: one file, safe whatever the records say, the same bytes for the same records."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from saec.gate.paired import over_hours
from saec.report.figures import NO_DATA
from saec.report.headline import interval_text
from saec.report.page import OPEN_HOURS, render_report
from saec.report.records import STABLE_KEYS
from saec.report.text import signed
from tests.report.conftest import ledger_record


class Page(HTMLParser):
    """The tags, attributes and table cells of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip()


@pytest.fixture(scope="module")
def html() -> str:
    """The report of the sixty hours."""
    return render_report([ledger_record(index) for index in range(60)], "Saec <on> globo")


def test_page_needs_nothing_but_itself(html: str) -> None:
    """Every reference is to a place in the page; there is no script, sheet, font or import, and a policy says so."""
    page = Page(html)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?(.)", html))
    assert "@import" not in html
    assert "http://" not in html
    assert "default-src 'none'" in html


def test_references_lead_somewhere(html: str) -> None:
    """Each hour of the strip has its row, each shape that a figure uses is drawn, and no id is given twice."""
    page = Page(html)
    ids = [value for name, value in page.attributes if name == "id"]
    targets = {(value or "")[1:] for name, value in page.attributes if name in ("href", "xlink:href")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_hostile_text_stays_text(html: str) -> None:
    """Markup, control characters and lone surrogates of a message reach the page as harmless text."""
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert "Saec &lt;on&gt; globo" in html
    assert "\x1b" not in html
    html.encode("utf-8")


def test_hostile_values_everywhere_stay_text() -> None:
    """No field of a record is trusted: not outcome, reason, version, verdict, nor the names of files and steps."""
    evil = "\"><img src=x onerror='y'>&$\\frac{"
    record = {
        "hour": "2017-10-01T00",
        "outcome": evil,
        "reason": evil,
        "version": evil,
        "rows_gate": evil,
        "rows": evil,
        "served_pairs": {"live-original": evil, evil: {evil: evil}},
        "release_problem": evil,
        "auc_served": evil,
        "sizes": {evil: 5},
        "seconds": {evil: 1.0},
        "auc_original": 0.7,
        "verdict": {"status": evil, "text": evil, "comparisons": [{"reference": evil, "rows": evil}]},
    }
    page = Page(render_report([record], evil, live=evil))
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)


@pytest.mark.usefixtures("undrawn")
def test_codebooks_are_those_of_the_newest_hour_that_knows_them(records: list[dict[str, Any]]) -> None:
    """The table is of hour 30 when hour 31 was quarantined; it has a row a field, one dash for each unknown figure."""
    html = render_report(records[:32], "t")
    table, _, figure = html.partition("<h2>Codebooks of ")[2].partition("<h2>")[0].partition("</table>")
    assert table.startswith("2017-10-02T06, field by field")
    cells = Page(table).cells
    assert cells[:8] == ["user_id", "2,430", "32", "75 %", "12 %", "22 %", "50 %", "no"]
    assert cells[16:24] == ["<b>a|b", "0", *["–"] * 6]
    assert "<svg" in figure


@pytest.mark.usefixtures("undrawn")
def test_records_of_before_fields_make_a_page_without_them(records: list[dict[str, Any]]) -> None:
    """A ledger that was written by an older release renders; there is no empty table and no empty figure."""
    html = render_report(records[:12], "t")
    assert "Codebooks of" not in html
    assert "Figure 7" not in html
    assert "Figure 6b" in html


@pytest.mark.usefixtures("undrawn")
def test_released_candidates_are_counted_and_said_of_their_hour(records: list[dict[str, Any]], html: str) -> None:
    """One of the last 24 hours; its details say it, those of no other do."""
    assert "In 1 of the last 24 hours the judged candidate was published" in html
    assert html.count("<dt>released</dt>") == 1
    assert f'id="h{records[50]["hour"]}"' in html.partition("<dt>released</dt>")[0].rpartition("<tbody")[2]
    assert "the judged candidate was published" not in render_report(records[:46], "t")


def test_what_was_served_comes_first(records: list[dict[str, Any]], html: str) -> None:
    """Tiles, table and figures start with it; the gate's figures are the last and named so."""
    tiles = re.findall(r'<span class="note">([^<]+)</span><b>', html)
    assert tiles[:2] == ["AUC served, live − original", "Log loss served, live − original"]
    headings = re.findall(r"<figcaption><b>([^<]+)</b>", html)
    assert headings[0] == "Figure 1a. AUC served"
    assert [heading.partition(".")[2] for heading in headings[-3:-1]] == [" The gate: AUC", " The gate: log loss"]
    assert html.index("<h2>Served figures") < html.index("<h2>Hours</h2>")


@pytest.mark.usefixtures("undrawn")
def test_pairs_are_shown_for_the_last_day_and_for_all_hours(records: list[dict[str, Any]], html: str) -> None:
    """Three pairs each, with intervals; a day alone is not shown twice."""
    cells = Page(html.partition("<h2>Served figures")[2].partition("</table>")[0]).cells
    assert [(cells[at], cells[at + 2]) for at in range(0, len(cells), 7)] == [
        (window, pair)
        for window in ("last 24 hours", "all 60 hours")
        for pair in ("live − original", "version − original", "live − version")
    ]
    found = over_hours(records[-24:])["live-original"]
    assert cells[1] == f"{found.rows:,}"
    assert cells[3:5] == [signed(found.auc.difference), interval_text(found.auc)]
    assert "all 24 hours" not in render_report(records[-24:], "t")


def test_records_of_before_served_figures_make_a_page_without_them(records: list[dict[str, Any]]) -> None:
    """A ledger of an older release renders: not known, and no empty table."""
    served = {*STABLE_KEYS[5:11], "served_pairs", "ratio_version", "release_problem"}
    old = [{key: value for key, value in record.items() if key not in served} for record in records]
    html = render_report(old, "t")
    assert "<h2>Served figures" not in html
    assert "<small>not known</small>" in html
    assert NO_DATA in html


def test_what_is_not_known_is_a_dash(records: list[dict[str, Any]]) -> None:
    """An hour without data shows dashes: no None, no nan, no zero."""
    page = Page(render_report([records[9]], "one hour"))
    assert page.cells[2:15] == ["–"] * 13
    assert not re.search(r"\b(None|nan)\b", " ".join(page.cells))


def test_same_records_same_bytes(records: list[dict[str, Any]], html: str) -> None:
    """In any order of records and however often, the file is the same."""
    assert render_report(list(reversed(records)), "Saec <on> globo") == html


def test_older_hours_unfold(html: str) -> None:
    """The newest hours are in view; the rest are behind one line, newest first all through."""
    hours = re.findall(r'<tbody id="h([^"]+)"', html)
    assert len(hours) == 60
    assert hours == sorted(hours, reverse=True)
    shown, hidden = html.split("12 earlier hours")
    assert f'id="h{hours[OPEN_HOURS - 1]}"' in shown
    assert f'id="h{hours[OPEN_HOURS]}"' in hidden


def test_header_says_the_pooled_figures(records: list[dict[str, Any]], html: str) -> None:
    """The first lines carry the outcome counts, the difference to the original and the live version."""
    head = html[: html.index("<h2>")]
    found = over_hours(records[-24:])["live-original"]
    assert f"{signed(found.auc.difference)}</b>" in head
    assert f"95%: {interval_text(found.logloss)}" in head
    assert f"{found.rows:,} rows" in head
    assert "55 of 60" in head
    assert "3 held, 1 quarantined, 1 failed" in head
    assert records[-1]["version"] in head


@pytest.mark.usefixtures("undrawn")
def test_rollback_shows_which_version_is_live(records: list[dict[str, Any]]) -> None:
    """When the store's live version is not the newest published one, the header says both."""
    head = render_report(records, "t", live=records[3]["version"]).split("<h2>")[0]
    assert records[3]["version"] in head
    assert f"not the newest one, which is {records[-1]['version']}" in head


def test_no_records_make_a_page_that_says_so() -> None:
    """An empty ledger is a state, not an error."""
    html = render_report([], "Saec")
    assert "no hours yet" in html
    assert "<svg" not in html
