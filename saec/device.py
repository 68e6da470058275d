"""Chooses where the numeric work of an hour runs: on the processor, or on an NVIDIA GPU (setting `device`).

The device runs training, retraining, scoring by the models in training, and the search for the nearest codeword.
Tables, vocabulary and files stay in main memory. A published version scores on the processor, as it does when it
serves. Decisions:
- The choice applies to the process, like torch's thread count; each step of an hour makes it again (`saec.steps`).
- torch is imported only to ask about GPUs, because clustering also runs without it (`saec.compression.products`).
- The same code runs on both. A GPU adds up in another order, so its bytes differ from a processor's. They are
  reproducible on the same GPU model with the same libraries, because torch runs its deterministic algorithms.
"""

# ruff: noqa: PLC0415 - see the decisions
from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from saec.errors import ConfigError

CPU = "cpu"
current = CPU
"""Device for training and for the search of codewords from now on, in torch's notation, such as `cuda:0`."""
log = logging.getLogger(__name__)


def use(name: str) -> str:
    """Choose the device of the process; errors as for `chosen`."""
    global current  # noqa: PLW0603 - as torch's own threads are
    current = chosen(name)
    return current


@lru_cache
def chosen(name: str) -> str:
    """The device that `cpu`, `cuda` or `auto` means on this machine.

    Raises:
        ConfigError: when CUDA is asked for and not there.
    """
    if name == "cpu":
        return CPU
    import torch

    if (lacking := _lacking()) is None:
        # Without it cuBLAS may use another algorithm in each run; CUDA reads it when first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        found = f"cuda:{torch.cuda.current_device()}"
        log.info("trains on %s", torch.cuda.get_device_name(found))
        return found
    if name == "auto":
        log.warning("device: auto takes the processor, since %s", lacking)
        return CPU
    raise ConfigError(f"device: cuda, but {lacking}; or set device: cpu")


def deterministic() -> None:
    """Have torch refuse whatever would not give the same bytes twice, from now on.

    `torch.use_deterministic_algorithms` would do the same, but it also imports a compiler that we do not use, which
    takes half of the time of a process that does one small hour. Fresh memory is not filled first: every array here is
    written before it is read, and on a GPU to fill them was every third kernel of a step.
    """
    import torch

    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def in_any_order() -> Iterator[None]:
    """For writes to distinct places, or of equal values: on a GPU torch would sort the places first, to be sure."""
    if current == CPU:
        yield
        return
    import torch

    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def model() -> str | None:
    """The GPU's name, because its bytes depend on it; None on the processor."""
    if current == CPU:
        return None
    import torch

    return torch.cuda.get_device_name(current)


def _lacking() -> str | None:
    """Why CUDA is not available, and what to do; None if it is."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install its CUDA build (docs/dependencies.md)"
    if not torch.cuda.is_available():
        return "torch sees no GPU: see whether nvidia-smi lists one and CUDA_VISIBLE_DEVICES does not hide it"
    return None
