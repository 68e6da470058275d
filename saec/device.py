"""Where the numeric work of an hour is done: on the processor, or on an NVIDIA GPU by CUDA (`device` of the settings).

What moves is training, retraining, the scoring of rows by the models that train, and the search for the nearest
codeword. Tables, vocabulary and files stay in the machine's memory; a published version scores on the processor, since
that is how it is served. Decisions:
- The choice is one of the process, like torch's threads: each step of an hour makes it anew (`saec.steps`).
- torch is imported where it is asked about its GPUs, for clustering runs without it (`saec.compression.products`).
- The same code runs on both. A GPU adds up in another order, so its bytes are its own: the same again on one model of
  GPU with the same libraries, for torch is held to its deterministic algorithms, and never those of a processor.
"""

# ruff: noqa: PLC0415 - see the decisions
from __future__ import annotations

import logging
import os
from functools import lru_cache

from saec.errors import ConfigError

CPU = "cpu"
current = CPU
"""Where learners made from now on train, and where codewords are searched; as torch writes it, such as `cuda:0`."""
log = logging.getLogger(__name__)


def use(name: str) -> str:
    """Make the choice; errors as for `chosen`."""
    global current  # noqa: PLW0603 - as torch's own threads are
    current = chosen(name)
    return current


@lru_cache
def chosen(name: str) -> str:
    """What `cpu`, `cuda` or `auto` stands for on this machine.

    Raises:
        ConfigError: when CUDA is asked for and not there.
    """
    if name == "cpu":
        return CPU
    import torch

    if (lacking := _lacking()) is None:
        # Without it cuBLAS may take another way from run to run; it is read when CUDA is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        found = f"cuda:{torch.cuda.current_device()}"
        log.info("trains on %s", torch.cuda.get_device_name(found))
        return found
    if name == "auto":
        log.warning("device: auto takes the processor, since %s", lacking)
        return CPU
    raise ConfigError(f"device: cuda, but {lacking}; or set device: cpu")


def model() -> str | None:
    """The GPU's name, which its bytes depend on; None on the processor."""
    if current == CPU:
        return None
    import torch

    return torch.cuda.get_device_name(current)


def _lacking() -> str | None:
    """Why there is no CUDA here, and what to do; None where it is there."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install its CUDA build (docs/dependencies.md)"
    if not torch.cuda.is_available():
        return "torch sees no GPU: see whether nvidia-smi lists one and CUDA_VISIBLE_DEVICES does not hide it"
    return None
