"""Writes saec's log of an hour to standard error, as text or as one JSON object per line.

    SAEC_LOG=json saec run          # or text; if it is unset, only the model server writes a log

Decisions: it is an environment variable because plain cron, a flow run by hand and a served flow all inherit it. The
hour of a line (and the version, once there is one) is a context variable rather than an argument of every function, so
lines from every module carry it. Only saec's own loggers are written, not those of libraries.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

from saec.errors import ConfigError
from saec.hours import Hour

if TYPE_CHECKING:
    from saec.ledger import HourRow

FORMS = ("text", "json")
VARIABLE = "SAEC_LOG"
log = logging.getLogger(__name__)


@dataclass
class _Subject:
    """The hour and version that log lines are about."""

    hour: Hour
    version: str | None = None
    step: str | None = None
    since: float = 0.0


_subject: ContextVar[_Subject | None] = ContextVar("saec_log_subject", default=None)
P = ParamSpec("P")


def start(form: str = "") -> None:
    """Start writing saec's log as `SAEC_LOG` says, from level INFO on; calling it again changes nothing.

    Args:
        form: "text" or "json", used if the variable is unset; without it nothing is written then.

    Raises:
        ConfigError: when the variable holds something else.
    """
    form = os.environ.get(VARIABLE, form)
    if form not in ("", *FORMS):
        raise ConfigError(f"{VARIABLE} must be {' or '.join(FORMS)}, or unset, got {form[:80]!r}")
    logger = logging.getLogger("saec")
    logger.setLevel(logging.INFO)
    if form and not any(isinstance(handler, _Handler) for handler in logger.handlers):
        logger.addHandler(_Handler(form))
        logger.propagate = False  # otherwise a root handler would write each line again


@contextmanager
def about(hour: Hour, version: str | None = None) -> Iterator[None]:
    """Log lines within the block carry this hour and version."""
    token = _subject.set(_Subject(hour, version))
    try:
        yield
    finally:
        _subject.reset(token)


def hour_logged(do: Callable[P, HourRow]) -> Callable[P, HourRow]:
    """Decorate a function that does the hour `hour`: log a line when it begins and one when it ends."""
    signature = inspect.signature(do)

    @functools.wraps(do)
    def logged(*args: P.args, **kwargs: P.kwargs) -> HourRow:
        hour: Hour = signature.bind(*args, **kwargs).arguments["hour"]
        with about(hour):
            log.info("hour %s begun", hour)
            return ended(do(*args, **kwargs))

    return logged


def step_begun(step: str) -> None:
    """Note that the hour has reached a step, which ends the previous one."""
    subject = _subject.get()
    if subject:
        _step_finished(subject)
        subject.step, subject.since = step, time.perf_counter()


def ended(row: HourRow) -> HourRow:
    """Log how an hour ended, and return it."""
    subject = _subject.get() or _Subject(row.hour)
    subject.version = row.version
    token = _subject.set(subject)
    if row.record is not None:  # the hour completed, so its last step did too
        _step_finished(subject)
    log.info(
        "hour %s ended %s",
        row.hour,
        row.ending,
        extra={"outcome": row.state, "reason": row.reason, "seconds": row.seconds},
    )
    _subject.reset(token)
    return row


def _step_finished(subject: _Subject) -> None:
    if subject.step:
        seconds = round(time.perf_counter() - subject.since, 3)
        log.info("step %s finished in %.1f s", subject.step, seconds, extra={"step": subject.step, "seconds": seconds})
        subject.step = None


class _Handler(logging.StreamHandler[Any]):
    """A handler for the current standard error that adds hour and version to each line."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.setFormatter(
            _json_formatter()
            if form == "json"
            else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        subject = _subject.get()
        record.hour = str(subject.hour) if subject else None
        record.version = subject.version if subject else None
        self.stream = sys.stderr  # tests and notebooks replace standard error between commands
        super().emit(record)


def _json_formatter() -> logging.Formatter:
    """Timestamp, level, logger, message, hour and version, then any further fields (step, seconds, outcome)."""
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - only who asked for JSON pays for it

    return JsonFormatter(
        ["levelname", "name", "message", "hour", "version"],
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
    )
