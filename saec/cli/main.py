"""The command `saec`: lists the subcommands by section and turns every error into a message and an exit code.

Decisions: an error that saec raises on purpose is one clear message without a traceback, or JSON with --json; the exit
code says what kind of error it was. SIGTERM is handled like Ctrl-C, so that a stopped run gives back its lease.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import click

from saec import __version__
from saec.cli.check import check
from saec.cli.coloured import coloured
from saec.cli.completion import completion
from saec.cli.data import import_group, simulate
from saec.cli.deploy import deploy
from saec.cli.formats import export
from saec.cli.hours import backfill, run
from saec.cli.init import init
from saec.cli.migrate import migrate
from saec.cli.models import card, hold, repair, rollback, unhold, verify, versions
from saec.cli.reshard import reshard
from saec.cli.score import score
from saec.cli.serve import serve
from saec.cli.session import FAILED, HELD, STOPPED, USAGE, printable
from saec.cli.tidy import tidy
from saec.cli.tune import tune
from saec.cli.watch import metrics, report, status
from saec.errors import ConfigError, HourHeld, SaecError
from saec.logs import start as start_log

if TYPE_CHECKING:
    from types import FrameType

SECTIONS = {
    "Data": (init, check, simulate, import_group),
    "Hours": (run, backfill, migrate, reshard, tune, deploy),
    "What happened": (status, report, metrics),
    "Models": (versions, card, verify, repair, tidy, rollback, hold, unhold, score, export, serve),
    "Shell": (completion,),
}


class SaecGroup(click.Group):
    """All commands, listed by section; turns every error into a message and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the switches that decide how errors are shown; they are needed before a command parses them."""
        ctx.meta["as_json"], ctx.meta["debug"] = "--json" in args, "--debug" in args
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Each section's commands, one line each."""
        width = max(len(command.name or "") for commands in SECTIONS.values() for command in commands)
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [((command.name or "").ljust(width), command.get_short_help_str(96)) for command in commands]
                )

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Run the command and leave with the exit code it returns."""
        try:
            _log(debug=ctx.meta["debug"])
            code = super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            if not ctx.meta["as_json"]:
                raise
            code = _answer(error, as_json=True)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click handles it: the reader of our output has gone
            if ctx.meta["debug"]:
                traceback.print_exception(error)
            code = _answer(error, as_json=ctx.meta["as_json"])
        ctx.exit(code)


@click.group(cls=SaecGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="saec")
def cli() -> None:
    """Hourly retraining of a click model with compressed embeddings.

    Every hour: check the new clicks, train the original model, cluster its embeddings into codebooks, retrain these,
    compare the result with the original and the live version, and publish it if it passes.

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 held or quarantined, 130 stopped.
    """


for commands in SECTIONS.values():
    for command in commands:
        cli.add_command(command)
coloured(cli)


def main() -> None:
    """Entry point of the installed command."""
    signal.signal(signal.SIGTERM, _stop)
    cli(prog_name="saec")


def describe(error: BaseException) -> dict[str, Any]:
    """Describe an error: its kind, its reason, the message for people, and the exit code."""
    match error:
        case KeyboardInterrupt():
            said = "stopped; run the same command again to continue"
            return {"kind": "Stopped", "reason": "stopped", "message": said, "exit": STOPPED}
        case click.ClickException():
            return {"kind": "UsageError", "reason": "usage", "message": error.format_message(), "exit": USAGE}
        case SaecError():
            held = isinstance(error, HourHeld) or error.reason in ("busy", "conflict")
            code = USAGE if isinstance(error, ConfigError) else HELD if held else FAILED
            return {"kind": type(error).__name__, "reason": error.reason, "message": str(error), "exit": code}
        case OSError():
            return {"kind": type(error).__name__, "reason": "io", "message": str(error), "exit": FAILED}
        case _:
            said = f"a fault in saec, {type(error).__name__}: {error}; the same command with --debug shows where"
            return {"kind": type(error).__name__, "reason": "bug", "message": said, "exit": FAILED}


def _answer(error: BaseException, *, as_json: bool) -> int:
    """Print an error and return its exit code."""
    described = describe(error)
    if as_json:
        click.echo(json.dumps({"error": described}, indent=2))
    else:
        click.echo(f"saec: {printable(described['message'])}", err=True)
    code: int = described["exit"]
    return code


def _log(*, debug: bool) -> None:
    """Set up logging: commands print outcomes themselves; the library's log needs --debug or SAEC_LOG."""
    logging.getLogger("saec").addHandler(logging.NullHandler())
    start_log()
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
