"""`saec versions`, `card`, `verify`, `repair`, `rollback`, `hold` and `unhold`: inspect the store, change what is live.

Decisions: a person's rollback or hold takes effect at once, without the ledger's lease. Each needs a reason, which the
release log keeps.
"""

# ruff: noqa: PLC0415 - command bodies import what they need, for torch takes a second to import
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from saec.cli.completion import versions_that_are_there
from saec.cli.session import DONE, FAILED, Session, example, shared_options, whoami
from saec.errors import SaecError
from saec.report import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from saec.store.releases import Release

SHOWN_RELEASES, SHOWN_REASON = 5, 60

_READABLE = Theme({"markdown.code": "bold", "markdown.code_block": "bold"})
"""Rich's own style puts code on black, which a light terminal shows as bars."""
_reason = click.option("--reason", required=True, help="Why, for the release log.")


@click.command(epilog=example("saec versions --json"))
@shared_options
def versions(session: Session) -> None:
    """List the versions and the last releases, and mark the live version."""
    releases = session.store.releases()
    live = releases[-1] if releases else None
    found = [_described(session, version, live) for version in session.store.versions()]
    session.answer({"versions": found, "releases": [_public(release) for release in releases]})
    if not found:
        session.say(f"the store has no version yet; make one with {session.command('run')}")
        return
    session.screen.print(_versions_table(found))
    for release in releases[-SHOWN_RELEASES:]:
        said = text.plain(release.reason)
        short = said if len(said) <= SHOWN_REASON else f"{said[:SHOWN_REASON]}…"
        session.say(f"{release.at[:16]}Z {release.action} {release.version or ''}, {release.actor}: {short}", "dim")


@click.command(epilog=example("saec card 20260101T05-0123456789ab --out card.md"))
@click.argument("version", required=False, shell_complete=versions_that_are_there)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file.")
@shared_options
def card(session: Session, version: str | None, out: Path | None) -> None:
    """Show the model card of a version; default: the live one.

    The card says what the version is, what speaks against it, how it did at the gate and on hours that it had not
    learnt, with intervals, which hours it learnt, its size by file, its uses, and how to go back. Nothing is measured
    again: the card is made from manifest, release log and ledger.
    """
    from saec.durable import write_file
    from saec.report.card import card as facts_of
    from saec.report.card_page import card_markdown
    from saec.store.manifest import version_hour

    version = version or session.live()
    hour = version_hour(version)
    rows = [*session.ledger.rows(last=hour - 1, records=False), *session.ledger.rows(hour)]
    facts = facts_of(session.store, rows, version)
    page = card_markdown(facts)
    session.answer(facts)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, page.encode())
        session.say(f"card: {out}")
    elif session.screen.is_terminal:
        with session.screen.use_theme(_READABLE):
            session.screen.print(Markdown(page, code_theme="bw"))
    elif not session.as_json:
        click.echo(page, nl=False)


@click.command(epilog=example("saec verify 20260101T05-0123456789ab"))
@click.argument("version", required=False, shell_complete=versions_that_are_there)
@shared_options
def verify(session: Session, version: str | None) -> int:
    """Compare stored bytes with the manifests' digests.

    Checks VERSION, or every version. In the latter case it also compares store, release log, ledger and training state:
    what one of them names and another lacks, what nothing names, what no run finished.
    """
    from saec.integrity import examine
    from saec.workspace import Workspace

    wanted = [version] if version else [*session.store.versions(), *_missing(session)]
    found = {name: session.store.verify(name) for name in wanted}
    others = [] if version else list(examine(Workspace(session.config), session.ledger))
    gone = {*wanted} - {*session.store.versions()}
    bad = [name for name, problems in found.items() if problems]
    wrong = [finding for finding in others if finding.kind != "unreachable"]
    commands = [session.command(words) for words in _mend(session, bad, gone)]
    session.answer(
        {
            "whole": not bad and not wrong,
            "missing": sorted(gone),
            "next": commands,
            "versions": [{"version": name, "problems": problems} for name, problems in found.items()],
            "others": [vars(finding) for finding in others],
        }
    )
    for name in bad:
        for problem in found[name]:
            session.say(f"{name}: {problem}", style="red")
    for finding in others:
        session.say(f"{finding.kind}: {finding.what} {finding.problem}", style="red" if finding in wrong else "dim")
    session.say(
        f"{text.plural(len(found) - len(gone), 'version')} verified, {len(bad) - len(gone)} damaged, "
        f"{len(gone)} missing" + (f"; {len(wrong)} other problems" if wrong else "")
    )
    for command in commands:
        session.say(f"next: {command}", style="dim")
    return FAILED if bad or wrong else DONE


@click.command(epilog=example("saec repair"))
@shared_options
def repair(session: Session) -> int:
    """Move damaged versions, and files that do not belong to the store, out of the way.

    They go to the store's folder set-aside. The live version is never moved: if it is damaged, the exit code is 1 and
    the output names the command that makes a sound version live. To remake a moved version, use saec backfill.
    """
    from saec.integrity import ASIDE, set_aside
    from saec.schedule.lease import held

    with held(session.ledger, session.store, session.config.workspace, f"saec repair by {whoami()}", 0.0):
        moved = set_aside(session.store)
    last = session.store.live()
    live = last.version if last else None
    problems = session.store.verify(live) if live else []
    commands = [session.command(words) for words in _mend(session, [live] if live and problems else [], ())]
    session.answer({"moved": moved, "live": {"version": live, "problems": problems}, "next": commands})
    for name in moved:
        session.say(f"moved to {ASIDE}: {name}")
    session.say(f"{text.plural(len(moved), 'file')} set aside")
    if problems:
        session.say(f"{live} is live and damaged; it was not moved: {'; '.join(problems)}", style="red")
    for command in commands:
        session.say(f"next: {command}", style="dim")
    return FAILED if commands else DONE


@click.command(epilog=example('saec rollback 20260101T04-0123456789ab --reason "calibration off in the app"'))
@click.argument("version", shell_complete=versions_that_are_there)
@_reason
@shared_options
def rollback(session: Session, version: str, reason: str) -> None:
    """Make an earlier version live again, and hold publishing.

    VERSION is verified first. Nothing is published until `saec unhold`; otherwise the next hour would undo the
    rollback.
    """
    _tell_release(session, session.store.rollback(version, actor=f"saec rollback by {whoami()}", reason=reason))


@click.command(epilog=example('saec hold --reason "launch day"'))
@_reason
@shared_options
def hold(session: Session, reason: str) -> None:
    """Keep the live version until `saec unhold`.

    Hours run on and their versions are kept, but none is published.
    """
    _tell_release(session, session.store.hold(actor=f"saec hold by {whoami()}", reason=reason))


@click.command(epilog=example('saec unhold --reason "launch is over"'))
@_reason
@shared_options
def unhold(session: Session, reason: str) -> None:
    """End the hold of `saec hold` or `saec rollback`.

    The next hour that passes the gate is published.
    """
    _tell_release(session, session.store.unhold(actor=f"saec unhold by {whoami()}", reason=reason))


def _described(session: Session, version: str, live: Release | None) -> dict[str, Any]:
    """A version, its marks and figures; if its manifest is damaged, the problem instead of figures."""
    is_live = live is not None and live.version == version
    described: dict[str, Any] = {
        "version": version,
        "live": is_live,
        "held": is_live and live is not None and live.held,
        "previous": live is not None and live.previous == version,
        "problem": None,
    }
    try:
        manifest = session.store.manifest(version)
    except SaecError as error:
        return {**described, "problem": str(error)}
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    return {
        **described,
        "hour": manifest["hour"],
        "bytes": sum(sizes.values()),
        "files": sizes,
        **{key: manifest.get(key) or {} for key in ("metrics", "compression", "verdict")},
    }


def _versions_table(found: list[dict[str, Any]]) -> Table:
    """One line per version."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("version", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("AUC", "log loss", "vectors", "bytes", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for item in found:
        metrics, compression = item.get("metrics", {}), item.get("compression", {})
        marks = [mark for mark in ("live", "held", "previous") if item[mark]] + ["damaged"] * bool(item["problem"])
        style = "red" if item["problem"] else "bold" if item["live"] else ""
        cells = (
            text.decimal(metrics.get("auc_compressed")),
            text.decimal(metrics.get("logloss_compressed")),
            text.times(compression.get("ratio_vectors")),
            text.times(compression.get("ratio_total")),
            text.size(item.get("bytes")),
        )
        table.add_row(*(Text(cell, style=style) for cell in (item["version"], ", ".join(marks), *cells)))
    return table


def _mend(session: Session, bad: Collection[str], gone: Collection[str]) -> Iterator[str]:
    """The commands, in order, that repair the store if these versions are damaged or gone."""
    from saec.monitoring.lost import way_back

    live, published = session.store.live(), [row for row in session.ledger.rows() if row.state == "PUBLISHED"]
    if live.version in bad if live and live.version else published:
        yield way_back(session.store, published)
    if {*bad} - {*gone}:
        yield "repair"


def _missing(session: Session) -> list[str]:
    """Versions missing from the store: the live one, the one before it, and those that retention would keep."""
    kept, last = session.store.versions(), session.store.live()
    known = {*kept, *(row.version for row in session.ledger.rows() if row.version)}
    recent = sorted(known)[-session.config.retention :]
    needed = {last.version, last.previous} if last else set()
    return sorted(name for name in {*recent, *needed} - {*kept} if name)


def _public(release: Release) -> dict[str, Any]:
    """A release for an answer."""
    return release.model_dump(exclude={"token"})


def _tell_release(session: Session, done: Release) -> None:
    """Print a change of the live version, and mirror it at once if mirrors are configured."""
    from saec.ledger import is_there
    from saec.mirrors.registry import mirror_releases

    if is_there(session.config.ledger_url):  # the ledger has the pipeline's name
        mirror_releases(session.config, session.ledger, session.store)
    session.answer(_public(done))
    session.say(f"live: {done.version or 'nothing yet'} ({done.actor}: {done.reason})")
    if done.held:
        session.say(f"held: nothing is published until {session.command('unhold --reason ...')}", style="yellow")
