"""The settings (dials) that `saec tune` changes, and their values.

Decisions: the most important dials come first, because a search may end early; how a network starts comes before the
rates, because a high rate makes up for a part of it and then hides it. Each dial has a ladder of values and is
moved one rung at a time from its current value. Settings that trade quality for something else are excluded: sizes
(`ratio`, `width`), the share of gate rows, limits. So are settings that change the rows' encoding (fields, crosses), so
that rows are encoded only once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saec.config import Config

Changes = dict[str, float]
"""Values of dials by name, as `training.table_learning_rate`, where they are not as set."""


@dataclass(frozen=True)
class Dial:
    """A number among the settings."""

    name: str
    """Section and knob."""
    ladder: tuple[float, ...]
    """Values in order; a value between two of them is turned to either."""
    none_is_zero: bool = False
    """Whether 0 stands for no bound, and so for the largest value."""

    def value(self, config: Config) -> float:
        """What the settings say."""
        section, _, knob = self.name.partition(".")
        found: float = getattr(getattr(config, section), knob)
        return found

    def beyond(self, value: float, *, up: bool) -> float | None:
        """The next rung; None at the end of the ladder."""
        if up:
            return min(
                (rung for rung in self.ladder if self._rank(rung) > self._rank(value)), key=self._rank, default=None
            )
        return max((rung for rung in self.ladder if self._rank(rung) < self._rank(value)), key=self._rank, default=None)

    def _rank(self, value: float) -> float:
        return math.inf if self.none_is_zero and value == 0 else value


DIALS = (
    Dial("model.first_order", (0.0, 0.5, 1.0)),
    Dial("training.table_learning_rate", (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)),
    Dial("training.dense_learning_rate", (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032)),
    Dial("model.logit_cap", (1.0, 1.5, 2.0, 3.0, 4.5, 0.0), none_is_zero=True),
    Dial("training.table_prior", (0.125, 0.5, 2.0, 8.0, 32.0)),
    Dial("vocabulary.admit_after", (1, 2, 3, 5)),
)
"""In the order in which they are turned."""


def by_section(changes: Changes) -> dict[str, dict[str, float]]:
    """The values by section and knob."""
    found: dict[str, dict[str, float]] = {}
    for name, value in changes.items():
        section, _, knob = name.partition(".")
        found.setdefault(section, {})[knob] = value
    return found


def turned(config: Config, changes: Changes) -> Config:
    """The settings with some dials turned."""
    parts = {name: getattr(config, name).model_copy(update=values) for name, values in by_section(changes).items()}
    return config.model_copy(update=parts)
