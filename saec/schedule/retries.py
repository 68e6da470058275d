"""Retries steps after failures that may pass by themselves.

Decisions: only a momentary failure of storage or network is worth a retry. There are few retries, after growing pauses
with jitter, so that many pipelines do not return at once. Faulty data, a full disk or a diverged model would fail the
same way again.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from saec.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

PAUSES = (2.0, 20.0)
"""Seconds before the second and third attempt. An object store has already been retried for a minute by then."""
JITTER = 0.5
"""Share of a pause that is drawn at random and added."""
_LASTING = {
    errno.ENOSPC,
    errno.EDQUOT,  # the disk is full
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,  # not allowed
    errno.EIO,  # after a failed write or fsync, what the disk says next cannot be trusted
    errno.ENOENT,
    errno.EXDEV,
}
log = logging.getLogger(__name__)


def may_pass(error: object) -> bool:
    """Whether an error may be gone a moment later."""
    if isinstance(error, StoreError):
        return type(error) is StoreError and error.reason == "store"
    return isinstance(error, OSError) and error.errno not in _LASTING


def tried_again(step: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step, and run it again if it fails with an error that may pass."""
    for pause in PAUSES:
        try:
            return step(*args, **kwargs)
        except (OSError, StoreError) as error:
            if not may_pass(error):
                raise
            log.warning("step %s failed and is tried again: %s", step.__name__, error)
            time.sleep(pause * (1 + JITTER * random.random()))  # noqa: S311 - nobody is to guess nothing here
    return step(*args, **kwargs)
