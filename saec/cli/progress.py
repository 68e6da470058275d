"""Shows the progress of long work on standard error: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from saec.ledger import report_record
from saec.report import text
from saec.report.records import STEPS, explanation
from saec.report.terminal import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from rich.console import Console

    from saec.hours import Hour
    from saec.ledger import HourRow


class Bar:
    """A bar with the work done, the current work and the time left; use it in a `with` block."""

    def __init__(self, console: Console, *, total: float | None = None, unit: str = "hours") -> None:
        """A bar.

        Args:
            console: where it is drawn; nothing is drawn unless it is a terminal.
            total: how much there is to do; None if unknown.
            unit: what is counted.
        """
        said = TextColumn("{task.description}")
        counted = TextColumn("{task.fields[done]}{task.fields[of]}" + f" {unit}")
        columns = (BarColumn(24), counted, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), said)
        self.console = console
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=total, done=0, of=_of(total))

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._progress.stop()

    def show(self, done: float, doing: str = "") -> None:
        """Show how much is done (fractions count) and what is being done."""
        self._progress.update(self._task, completed=done, description=doing, done=f"{int(done):,}")


class HourBar(Bar):
    """A bar over hours, as a `saec.schedule.pipeline.Listener`; it also prints one line when an hour ends."""

    ended = 0

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:  # noqa: ARG002 - the bar makes its own estimate
        """Set how many hours are done and how many are left."""
        self.ended = done
        self._progress.update(self._task, total=done + left, of=_of(done + left))

    def on_step(self, hour: Hour, step: str) -> None:
        """An hour has reached a step."""
        self.show(self.ended + STEPS.index(step) / len(STEPS), f"{hour} {step}")

    def on_hour(self, row: HourRow) -> None:
        """An hour has ended."""
        self.ended += 1
        self.show(self.ended)
        self.console.print(hour_line(report_record(row)), soft_wrap=not self.console.is_terminal)


def _of(total: float | None) -> str:
    return f" of {total:,.0f}" if total else ""


def hour_line(record: Mapping[str, Any]) -> Text:
    """How an hour ended, in one line; an explanation of several lines is set below it."""
    outcome = str(record["outcome"])
    line = Text(f"{record['hour']} ").append(outcome, style=COLOURS.get(outcome, ""))
    if record["reason"]:
        line.append(f"({text.plain(record['reason'])})")
    if record.get("auc_compressed") is not None:
        ours, original = text.decimal(record["auc_compressed"]), text.decimal(record["auc_original"])
        line.append(f"  AUC at the gate {ours}, original {original}")
    if outcome != "PUBLISHED":
        why = text.lines(explanation(record))
        line.append(textwrap.indent(f"\n{why}", "  ") if "\n" in why else f"  {why}", style="dim")
    return line
