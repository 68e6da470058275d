"""Writes the overview page in markdown: the live version, alarms, what comes next, and how the last hours went.

Decisions: the answer comes first (what is live and since when, then every alarm with its first command), then the
evidence. The strip's image is embedded in the text. Everything from outside is escaped. The caller provides links to
the hours' pages, because only Prefect's UI has such pages.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from saec.hours import Hour
from saec.ledger import report_record
from saec.monitoring.alarms import Alarm
from saec.monitoring.outlook import Outlook
from saec.report import text
from saec.report.markdown import escape, markdown_table
from saec.report.records import Record, hour_of, total_seconds
from saec.report.standing import standing
from saec.report.strip import HOURS, last_outcomes, strip_words
from saec.report.strip_figure import strip_image

HEAD = ("hour (UTC)", "outcome", "AUC live", "AUC orig.", "loss live", "loss orig.", "bytes", "time")
"""Of the metrics: on all rows of the hour, before they are learnt."""


def overview_markdown(outlook: Outlook, fired: Sequence[Alarm], page_of: Callable[[Hour], str]) -> str:
    """The overview.

    Args:
        outlook: the state of the pipeline.
        fired: the alarms that are set off.
        page_of: the address of an hour's page.
    """
    blocks = [_headline(outlook), *map(_alarm, fired), _strip(outlook), _standing(outlook), _hours(outlook, page_of)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _headline(outlook: Outlook) -> str:
    """What is live and since when; not its age, because the page is read later than it is written."""
    seen = f"Seen {outlook.now:%Y-%m-%d %H:%M} UTC."
    if not outlook.live_version or not outlook.live_since:
        return f"# {'What was live is gone' if outlook.has_published else 'Nothing is live yet'}\n\n{seen}"
    held = " · HELD" if outlook.live and outlook.live.held else ""
    since = f"# Live since {outlook.live_since:%Y-%m-%d %H:%M} UTC{held}"
    return f"{since}\n\nVersion {escape(outlook.live_version)}. {seen}"


def _alarm(alarm: Alarm) -> str:
    """An alarm, as a quotation that stands out."""
    return f"> **ALARM {escape(alarm.name)}**: {escape(alarm.message)}. First: {escape(f'saec {alarm.command}')}"


def _strip(outlook: Outlook) -> str:
    """The strip, and its counts in words."""
    outcomes = last_outcomes(outlook)
    if not outcomes:
        return ""
    encoded = base64.b64encode(strip_image(outcomes)).decode()
    words = escape(strip_words(outcomes.values()))
    return f"![The last hours, by day](data:image/png;base64,{encoded})\n\nLast {len(outcomes)} hours: {words}."


def _standing(outlook: Outlook) -> str:
    """What else there is to know; a list, because a narrow window folds its lines but cuts a table's."""
    return "\n".join(f"- **{line.label}**: {escape(line.said)}" for line in standing(outlook))


def _hours(outlook: Outlook, page_of: Callable[[Hour], str]) -> str:
    """The last hours, newest first, each with the address of its page."""
    records = [report_record(row) for row in reversed(outlook.rows[-HOURS:])]
    if not records:
        return ""
    said = "AUC and log loss of what was served, and of the original, on all rows of the hour before they are learnt."
    return f"## Hours\n\n{said}\n\n{markdown_table(HEAD, [_hour(record, page_of) for record in records])}"


def _hour(record: Record, page_of: Callable[[Hour], str]) -> list[str]:
    """One hour."""
    hour = hour_of(record)
    reason = f" {escape(record['reason'])}" if record.get("reason") else ""
    metrics = ("auc_served", "auc_original_served", "logloss_served", "logloss_original_served")
    return [
        f"[{hour}]({page_of(hour)})",
        f"{escape(record['outcome'])}{reason}",
        *(text.decimal(record.get(key)) for key in metrics),
        text.times(record.get("ratio_total")),
        text.duration(total_seconds(record)),
    ]
