"""Fail points: named places in the code where a test can kill, stop or end the process; off by default.

    SAEC_FAIL=version.committed:kill          # SIGKILL when the place is first reached
    SAEC_FAIL=durable.synced:exit@3           # end without any clean-up the third time
    SAEC_FAIL=step.publish:sleep              # hang for ever, with all locks held

Decisions: a fail point is a call of `reached`, named PART.WHAT-HAS-JUST-HAPPENED. Nothing is registered, so one line
adds a fail point. While off, a call costs one comparison. Within a process, set `on_reach` instead of the environment
variable.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable

from saec.errors import ConfigError

VARIABLE = "SAEC_FAIL"
_SPEC = re.compile(r"(?P<name>[a-z.-]+):(?P<what>kill|exit|sleep)(?:@(?P<time>[1-9]\d*))?", re.ASCII)

on_reach: Callable[[str], object] | None = None
"""Called with the name of each fail point reached; normally None."""


def reached(name: str) -> None:
    """Mark a fail point of this name."""
    if on_reach is not None:
        on_reach(name)


def fault(spec: str) -> Callable[[str], None]:
    """The value of `on_reach` for a text such as `version.committed:kill@2`.

    >>> fault("version.committed:sleep@2")("version.committed")

    Raises:
        ConfigError: when the text is not of that form.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ConfigError(
            f"{VARIABLE} must be PLACE:kill, PLACE:exit or PLACE:sleep, with @N for the Nth time, got {spec!r}"
        )
    left = int(match["time"] or 1)

    def reach(name: str) -> None:
        nonlocal left
        left -= name == match["name"]
        if name == match["name"] and left == 0:
            _ACTIONS[match["what"]]()

    return reach


def _stand_still() -> None:
    """Wait for ever."""
    threading.Event().wait()


_ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(1),
    "sleep": _stand_still,
}

if os.environ.get(VARIABLE):
    on_reach = fault(os.environ[VARIABLE])
