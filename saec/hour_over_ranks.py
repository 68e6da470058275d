"""Hours over ranks: what the processes beside rank 0 do in a pipeline's hours, and how `--ranks N` starts them.

Decisions: they train, cluster and build indexes. The rest of an hour is rank 0's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits

from saec import device
from saec.compression.index_together import INDEX, indexing
from saec.compression.together import CLUSTER, clustering
from saec.errors import ConfigError
from saec.train.followers import accompanied
from saec.train.original import Original
from saec.train.passes import TRAIN, training

if TYPE_CHECKING:
    from saec.config import Config
    from saec.train.ranks import Duties


def pipeline_over(size: int, config: Config) -> AbstractContextManager[None]:
    """`accompanied`, for the hours of a pipeline.

    Raises:
        ConfigError: when the settings ask for a GPU, which ranks would share: they add up with gloo, on processors.
    """
    if size > 1:
        require_processors(config)
    return accompanied(size, config.digest, partial(duties_of, config))


def require_processors(config: Config) -> None:
    """Refuse settings under which ranks would share a GPU."""
    if config.device != "cpu":
        raise ConfigError(
            f"device: {config.device}, but ranks train on processors: leave --ranks out, or set device: cpu"
        )


def duties_of(config: Config) -> Duties:
    """What a rank does when rank 0 asks; numeric libraries add up as rank 0's do, on as many threads."""
    torch.set_num_threads(config.threads)
    threadpool_limits(config.threads, user_api="blas")
    device.deterministic()
    return {TRAIN: training(Original(config).learner), CLUSTER: clustering(config), INDEX: indexing}
