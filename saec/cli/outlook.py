"""Determines the outlook (`saec.monitoring.outlook`) of a session's pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saec.monitoring import outlook
from saec.monitoring.outlook import Outlook, idle_line, next_words

if TYPE_CHECKING:
    from saec.cli.session import Session

__all__ = ["Outlook", "idle_line", "look", "next_words"]


def look(session: Session) -> Outlook:
    """The state of the pipeline now."""
    return outlook.look(session.config, session.ledger, session.store)
