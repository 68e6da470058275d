"""The search of `saec tune`: changes one dial after another, as long as the searched hours show that it helps.

Decisions: a change is kept only if the whole paired 95% interval of the log loss is below 0, because the best of many
trials may be best by chance. A dial is first moved up, then, if that did not help, down. After the last dial the first
comes again, because what is best for one depends on the others, until no dial helps any more. There is no randomness,
so a resumed search takes the same path and reuses known results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saec.tuning.dials import DIALS, Changes, Dial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saec.gate.paired import Paired
    from saec.tuning.replayed import Told, Trials


@dataclass(frozen=True)
class Turn:
    """A dial turned by one rung."""

    dial: str
    before: float
    value: float
    gap: Paired
    """The original after it minus before it, on the searched hours."""

    @property
    def helps(self) -> bool:
        """Whether the searched hours show that it does."""
        return self.gap.logloss.upper < 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dial": self.dial,
            "before": self.before,
            "value": self.value,
            "auc_difference": self.gap.auc.difference,
            "logloss_difference": self.gap.logloss.difference,
            "logloss_lower": self.gap.logloss.lower,
            "logloss_upper": self.gap.logloss.upper,
            "kept": self.helps,
        }


def search(
    trials: Trials, most: int, told: Callable[[int, str], Told], dials: Sequence[Dial] = DIALS
) -> tuple[Changes, list[Turn]]:
    """Turn the dials.

    Args:
        trials: passes over the searched hours.
        most: turns that are tried at most.
        told: told how many turns were tried and which one comes, gives who is told how far it is.
        dials: in the order in which they are turned.

    Returns:
        The dials that are to be turned, and all turns that were tried.
    """
    best: Changes = {}
    turns: list[Turn] = []
    untried = [*dials]
    while untried and len(turns) < most:
        dial = untried.pop(0)
        for up in (True, False):
            turned = False
            while len(turns) < most:
                at = best.get(dial.name, dial.value(trials.config))
                if (value := dial.beyond(at, up=up)) is None:
                    break
                gap = trials.gap(best | {dial.name: value}, best, told(len(turns), f"{dial.name} {value:g}"))
                turns.append(Turn(dial.name, at, value, gap))
                if not turns[-1].helps:
                    break
                best, turned = best | {dial.name: value}, True
            if turned:
                at_dial = dials.index(dial)
                untried = [*dials[at_dial + 1 :], *dials[:at_dial]]  # for the others something else may be best now
                break
    return best, turns
