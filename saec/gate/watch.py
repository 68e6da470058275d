"""Watches a live version after its release: tests whether the hours that it served show it to be worse.

Over all hours that the version has been live, it is compared with the version that was live before it and with the
original at the start of each hour. The test is the gate's own: bounds valid at every look, with its margins and
confidence (`saec.gate.pooled`). Decisions:

- If the version is shown worse, an alarm is raised. With `gate.rollback`, the version before it becomes live again if
  the live one is worse than that one and the hour has nothing newer to publish; a new version that passed is better
  than an old one.
- *It cannot flap.* A rollback holds publishing until a person ends the hold, and a version that became live by a
  rollback has no version before it here (`saec.store.model_store.ModelStore.before_live`): one publication, one
  rollback.
- A few thousand rows of an hour, evenly chosen, are enough: the test continues until it decides.

Shapes: B rows of an hour.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from saec.config import GateConfig
from saec.gate.evidence import Evidence
from saec.gate.metrics import Floats, Labels, Weights
from saec.gate.pooled import test_of

MOST_ROWS = 4096
"""Most rows of an hour on which the live version is watched."""
BEFORE = "the version before"
ORIGINAL = "the original"


@dataclass(frozen=True)
class Watch:
    """What is known of a live version from the hours it served, for an hour's record."""

    version: str
    """Which version."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Its test so far, as `saec.gate.evidence.Evidence.as_dict`."""
    worse_than: tuple[str, ...] = ()
    """Which references it is shown worse than, `BEFORE` first."""
    text: str = ""
    """The same in words; empty when it is not."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "worse_than": list(self.worse_than)}


def watched(
    version: str,
    known: dict[str, Any] | None,
    labels_B: Labels,
    live_B: Floats,
    references: dict[str, Floats],
    config: GateConfig,
    weights_B: Weights = None,
) -> Watch:
    """Add an hour to what is known of the live version.

    Args:
        version: its id.
        known: the `Watch` of the hour before, from its record; that of another version counts for nothing.
        labels_B: uint8 [B], 0 or 1.
        live_B: float64 [B], probabilities of the live version.
        references: float64 [B] of `ORIGINAL` and, where there is one, `BEFORE`.
        config: margins and confidence.
        weights_B: float64 [B], how many rows each stands for.
    """
    so_far = Evidence.from_dict(known["evidence"]) if known and known["version"] == version else Evidence()
    evidence = so_far.with_stratum(labels_B, live_B, references, weights_B)
    failed = [check for check in test_of(evidence, config).failed if check.reference in references]
    worse_than = tuple(name for name in (BEFORE, ORIGINAL) if any(check.reference == name for check in failed))
    gaps = ", ".join(
        f"{check.difference.metric} {check.difference.challenger:.4f} to {check.difference.reference:.4f} "
        f"of {check.reference}"
        for check in failed
    )
    text = f"live version {version} is shown worse on the hours that it served: {gaps}" if failed else ""
    return Watch(version, evidence.as_dict(), worse_than, text)
