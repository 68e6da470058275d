"""Finds hours whose delivery has changed since they were done, and handles them as `data.late` says.

    ignore   the hour and the hours that build on it are marked stale, with how much has changed; a person decides
    fold     late rows are learnt with the next hour; the hour is marked stale only if learnt rows changed
    replay   the stale hours are redone aside, up to the newest, and swapped in

Decisions: listing the days before the newest hour shows which deliveries have changed; only their files are read.
Changes are detected row by row (`saec.data.late`). A new delivery that cannot be read does not undo what was learnt.
Three kinds of hours are not looked at: those beyond `retention`, trained ones whose list of learnt rows is gone, and
those whose list was made with other definitions of the fields (`saec.data.meaning`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saec.data.ingest import good_rows
from saec.data.late import Change, compare, identities
from saec.data.partitions import available_hours, read_partition
from saec.errors import HourHeld, InputError
from saec.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from saec.config import Config
    from saec.hours import Hour
    from saec.ledger import HourRow, Lease, Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LateHour:
    """An hour whose delivery has changed."""

    row: HourRow
    delivery: str
    """Mark of the files that are there now."""
    change: Change


def note_late(config: Config, ledger: Ledger, lease: Lease) -> list[LateHour]:
    """Look for changed deliveries and mark outdated hours as stale.

    Returns:
        Hours with rows to be learnt with the next one, oldest first; none unless `data.late` is "fold".
    """
    folded = []
    for late in changed_hours(config, ledger, lease):
        fold = config.data.late == "fold" and late.change.added > 0
        if fold:
            folded.append(late)
        if not fold or late.change.unlearnt:
            marked = ledger.mark_stale(lease, late.row.hour, f"data came late: {late.change}", including=True)
            log.warning("hour %s: %s; %d hours are stale", late.row.hour, late.change, marked)
        if not fold:
            ledger.delivered(lease, late.row.hour, late.delivery)
    return folded


def changed_hours(config: Config, ledger: Ledger, lease: Lease) -> Iterator[LateHour]:
    """Hours that are not frozen and whose rows are no longer those that were learnt, oldest first."""
    newest = ledger.newest()
    if not newest:
        return
    oldest = newest[-1].hour - config.retention
    available = available_hours(config.data, oldest, newest[-1].hour)
    for row in ledger.rows(oldest):
        mark = available.get(row.hour)
        if mark in (None, row.delivery) or row.state in ("RUNNING", "FAILED"):
            continue
        assert mark is not None
        change = _measured(config, ledger, row)
        if change:
            yield LateHour(row, mark, change)
        else:
            ledger.delivered(lease, row.hour, mark)


def learners(rows: Iterable[HourRow], hour: Hour) -> tuple[Hour, ...]:
    """Hours that learnt rows of an hour: itself, if it trained, and others into which late rows were folded."""
    trained = ((row.hour, row.record) for row in rows if row.record)
    return tuple(other for other, record in trained if other == hour or str(hour) in record.get("late", {}))


def _measured(config: Config, ledger: Ledger, row: HourRow) -> Change | None:
    """How an hour's delivery differs from what was learnt; None if it does not, or if it is unfit to be learnt from."""
    try:
        partition = read_partition(config, row.hour)
        if partition.sha256 == row.input_digest:
            return None
        rows = good_rows(config, partition)
    except (InputError, HourHeld) as error:
        log.warning("hour %s was delivered again and is unfit: %s; what was learnt from it stays", row.hour, error)
        return None
    workspace, by = Workspace(config), learners(ledger.rows(row.hour), row.hour)
    if not workspace.encoded_alike(by):
        log.warning(
            "hour %s was delivered again, but learnt with other definitions of its fields: its rows cannot be "
            "told apart; what was learnt from it stays",
            row.hour,
        )
        return None
    known = workspace.identities(row.hour, by)
    return compare(known, identities(config, rows)) if len(known) or not row.checkpoint else None
