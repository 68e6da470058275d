"""`saec reshard`: changes the number of shards of the training state.

Decisions: the command says what is wanted, and the next hour does it, as with `saec migrate`: until then nothing is
rewritten, and an hour that is killed over it is done again from the state as it was. What is learnt does not depend on
it, to the byte.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so the body imports what it needs
from __future__ import annotations

import click

from saec.cli.session import DONE, Session, example, shared_options, whoami

MOST = 1024


@click.command(epilog=example("saec reshard --shards 8"))
@click.option("--shards", type=click.IntRange(1, MOST), required=True, metavar="N", help="How many.")
@shared_options
def reshard(session: Session, shards: int) -> int:
    """Have the training state lie in N shards, each with files of its own, from the next hour on.

    For states of millions of features: whole rewrites then fall due shard by shard, so that no hour writes all. A shard
    holds whole fields; a field larger than a shard is split. Versions are the same for any number of shards. The next
    hour writes all of the state once.
    """
    from saec.workspace import Workspace

    workspace, trained = Workspace(session.config), session.ledger.trained(1)
    now = workspace.checkpoints.shards(trained[-1].checkpoint) if trained and trained[-1].checkpoint else None
    workspace.checkpoints.want(shards, f"saec reshard by {whoami()}")
    session.answer({"after": str(trained[-1].hour) if trained else None, "shards": now, "wanted": shards})
    if now == shards:
        session.say(f"the training state after hour {trained[-1].hour} lies in {shards} already, and goes on so")
    elif now is None:
        session.say(f"nothing has been learnt yet: the first hour begins with {shards}")
    else:
        session.say(f"in {now} now; the next hour writes the state in {shards}: " + session.command("run"))
    return DONE
