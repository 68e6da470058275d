"""`saec tidy`: frees disk space by removing what is too old to be needed."""

# ruff: noqa: PLC0415 - torch takes a second to import, so the body imports what it needs
from __future__ import annotations

import click

from saec.cli.session import Session, example, shared_options, whoami


@click.command(epilog=example("saec tidy --keep 2"))
@click.option(
    "--keep",
    type=click.IntRange(min=2),
    metavar="HOURS",
    help="Keep versions and training state of this many hours; overrides retention.",
)
@shared_options
def tidy(session: Session, keep: int | None) -> None:
    """Free disk space: remove old versions, training state and hours' files, and show what uses the disk.

    Every hour does the same when it ends, following the setting retention. The live version and the one before
    it always stay. An hour whose training state is gone cannot be redone, and no backfill can begin before the oldest
    state that is kept.
    """
    from saec.report.text import size
    from saec.schedule.pipeline import Pipeline
    from saec.schedule.tidy import retain, used

    config = session.config
    pipeline = Pipeline(config, actor=f"saec tidy by {whoami()}")
    with pipeline.leased():
        before = used(pipeline.workspace)
        retain(pipeline.workspace, pipeline.ledger, keep or config.retention)
        after = used(pipeline.workspace)
    freed = before.total() - after.total()
    session.answer({"freed_bytes": freed, "bytes": dict(after)})
    for name, count in after.most_common():
        session.say(f"{size(count):>9}  {config.workspace / name}")
    session.say(f"{size(max(freed, 0))} freed, {size(after.total())} left in {config.workspace}")
    if not keep and freed <= 0:
        session.say(
            f"retention keeps everything that is there; to free more: {session.command('tidy --keep 2')}", "dim"
        )
