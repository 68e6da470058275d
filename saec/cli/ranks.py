"""`--ranks N`: runs a command in N processes that train and cluster together (saec/train/ranks.py).

Decisions: the command is rank 0; it starts the others, which only follow it (saec/train/followers.py). Under torchrun,
which starts all of them, on many machines too, the command reads its rank from environment variables.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import DONE, STOPPED
from saec.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saec.cli.session import Session


def over_ranks(body: Callable[..., int]) -> Callable[..., int]:
    """Give a command the option --ranks; to be put under `shared_options`."""

    @click.option(
        "--ranks",
        type=click.IntRange(1),
        metavar="N",
        help="Train and cluster in N processes; default: 1, or the number that torchrun has started.",
    )
    @functools.wraps(body)
    def run(session: Session, *, ranks: int | None, **given: Any) -> int:
        started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
        if started > 1:
            if ranks not in (None, started):
                raise ConfigError(f"--ranks {ranks}, but torchrun has started {started} processes: leave --ranks out")
            return _member(session, functools.partial(body, session, **given))
        if ranks is None or ranks == 1:
            return body(session, **given)
        from saec.hour_over_ranks import pipeline_over

        with pipeline_over(ranks, session.config):
            return body(session, **given)

    return run


def _member(session: Session, body: Callable[[], int]) -> int:
    """The command as rank 0, or another rank that follows it."""
    from saec.hour_over_ranks import duties_of, require_processors
    from saec.train import ranks

    require_processors(session.config)
    joined = ranks.Ranks.join(session.config.digest)
    if joined.rank:
        return DONE if joined.follow(duties_of(session.config)) else STOPPED
    with ranks.led(joined):
        return body()
