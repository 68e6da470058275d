"""`saec reshard`: says what it will do, and the next hour does it."""

import pytest

from saec.cli.reshard import MOST
from saec.data.shards import MOST_SHARDS


def checkpoints(shell):
    with shell.site.pipeline() as pipeline:
        return [
            pipeline.workspace.checkpoints.shards(row.checkpoint) for row in pipeline.ledger.rows() if row.checkpoint
        ]


def test_the_next_hour_writes_the_state_in_so_many_shards(shell):
    """Told before and after; said again, it changes nothing."""
    assert MOST == MOST_SHARDS
    before = checkpoints(shell)
    assert "in 1 now" in shell("reshard", "--shards", 4).output
    assert checkpoints(shell) == before
    shell("run", code=None)
    assert checkpoints(shell)[-1] == 4
    assert "lies in 4 already" in shell("reshard", "--shards", 4).output


@pytest.mark.parametrize("shards", ["0", "1025", "eight"])
def test_a_number_that_cannot_be_is_wrong_usage(shell, shards):
    """Nothing is written down."""
    shell("reshard", "--shards", shards, code=2)
    assert not (shell.site.folder / "workspace" / "checkpoints" / "shards.json").exists()
