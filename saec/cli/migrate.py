"""`saec migrate`: permits the training state to be carried over to changed fields.

Decisions: the command only permits it; the next hour does it. Nothing is rewritten, and until then the old settings
still work. The command tries the change on a copy in memory before it reports it.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so the body imports what it needs
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from saec.cli.session import DONE, Session, example, shared_options, whoami
from saec.errors import ConfigError, nearest

if TYPE_CHECKING:
    from saec.data.meaning import Comparison
    from saec.ledger import HourRow
    from saec.train.tensors import Arrays
    from saec.workspace import Workspace

_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}
_BECOMES = {
    "kept": "continues",
    "moved": "continues",
    "added": "starts fresh",
    "removed": "is dropped",
    "changed": "is dropped and starts fresh",
}


@click.command(epilog=example("saec migrate --dry-run"))
@click.option("--dry-run", is_flag=True, help="Show what would happen to each field, and permit nothing.")
@click.option(
    "--keep",
    multiple=True,
    metavar="FIELD",
    help="A field whose column was only renamed: it continues. Use label_column for the label.",
)
@shared_options
def migrate(session: Session, *, dry_run: bool, keep: tuple[str, ...]) -> int:
    """Let the next hour carry over the training state to the changed fields of the settings.

    Use it after fields were added, removed or redefined (kind, type, column, boundaries, cap, crosses, hash key). Added
    and redefined fields start fresh, removed ones are dropped, all others continue. The live version keeps serving and
    being scored with its own schema. Without this command the next hour is refused.
    """
    from saec.carry import REASON, permit, permitted, refusal, state_schema
    from saec.data.meaning import LABEL, compare
    from saec.data.schema import schema_of
    from saec.workspace import Workspace

    workspace, trained = Workspace(session.config), session.ledger.trained(1)
    if not trained:
        session.answer({"after": None, "fits": True, "permitted": False, "fields": []})
        session.say("nothing has been learnt yet: the first hour takes the settings as they are")
        return DONE
    challenger, origin = _state(workspace, trained[-1])
    old, new = state_schema(challenger, origin), schema_of(session.config)
    known = (*old.field_names, LABEL)
    for name in keep:
        if name not in known:
            raise ConfigError(f"--keep {name}: the training state has no such field{nearest(name, known)}")
    found = compare(old, new, keep)
    if found.lasting:
        raise ConfigError(refusal(found, trained[-1].hour), reason=REASON)
    before = compare(old, new)
    told = [] if before.alike else _tried(workspace, trained[-1], challenger, found)
    if not before.alike and not dry_run:
        permit(workspace, before, keep, f"saec migrate by {whoami()}")
    session.answer(
        {
            "after": str(trained[-1].hour),
            "fits": before.alike,
            "permitted": permitted(workspace, before),
            "fields": told,
        }
    )
    _tell(session, trained[-1], told, pending=dry_run and not permitted(workspace, before))
    return DONE


def _state(workspace: Workspace, row: HourRow) -> tuple[Arrays, str]:
    """The challenger's state after an hour, and its name."""
    name = (row.record or {})["challenger"]
    return workspace.checkpoints.load(name), f"checkpoint {name}"


def _tried(workspace: Workspace, row: HourRow, challenger: Arrays, found: Comparison) -> list[dict[str, Any]]:
    """Carry over the state in memory; returns what happens to each field, and how many features it has."""
    import numpy as np

    from saec.compression.challenger import Challenger
    from saec.data.cohorts import GONE
    from saec.train.original import Original
    from saec.train.tensors import shards_of

    assert row.checkpoint is not None
    original = workspace.checkpoints.load(row.checkpoint)
    fields = len(found.old.field_names)
    counts_F = np.zeros(fields, np.int64)
    for part in shards_of(original):
        counts_F += np.bincount(part["vocabulary.fields_V"][part["vocabulary.row_V"] != GONE], minlength=fields)
    features = dict(zip(found.old.field_names, counts_F.tolist(), strict=True))
    Original.restore(workspace.config, original, f"checkpoint {row.checkpoint}", found.sources_F)
    Challenger.restore(workspace.config, challenger, "the challenger", found.sources_F)
    return [{**vars(change), "features": features.get(change.name, 0)} for change in found.fields]


def _tell(session: Session, row: HourRow, told: list[dict[str, Any]], *, pending: bool) -> None:
    """Print what happens to each field and to the next hour."""
    if not told:
        session.say(f"the training state after hour {row.hour} fits the settings: there is nothing to carry over")
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("field", "", "what differs", "features"):
        table.add_column(heading, justify="right" if heading == "features" else "left")
    for change in told:
        table.add_row(
            Text(change["name"]),
            Text(_BECOMES[change["what"]], style=_STYLES.get(change["what"], "")),
            Text(change["why"]),
            f"{change['features']:,}",
        )
    session.screen.print(table)
    if pending:
        session.say("nothing was changed; do it with " + session.command("migrate"))
    else:
        session.say(f"the next hour after hour {row.hour} will use these fields: " + session.command("run"))
