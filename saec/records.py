"""The records that the steps of an hour pass to each other: names, digests and figures, never data.

Shapes: B rows of the hour, G gate rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saec.workspace import FileDigest, Workspace

if TYPE_CHECKING:
    from saec.config import Config
    from saec.gate.verdict import Verdict
    from saec.hours import Hour


@dataclass(frozen=True)
class HourPlan:
    """What an hour starts from; everything else follows from its rows."""

    config: Config
    hour: Hour
    original: str | None = None
    """Checkpoint of the original after the hour before; None starts afresh."""
    challenger: str | None = None
    """Checkpoint of the challenger after the hour before, with the version made of it."""
    champion: str | None = None
    """The champion, to compare with: the live version, or in a backfill the last one published before this hour."""
    before_live: str | None = None
    """The version that was live before the champion, if the champion is live and was published."""
    watch: dict[str, Any] | None = None
    """Evidence on the live version from the hours before, see `saec.gate.watch`, as the record keeps it."""
    evidence: dict[str, Any] | None = None
    """The gate's evidence on the line from the hours before, as the record keeps it."""
    click_rates: tuple[float, ...] = ()
    """Click rates of the hours before, to detect a shift of the labels."""
    late: dict[Hour, tuple[Hour, ...]] = field(default_factory=dict)
    """Earlier hours whose late rows are learnt with this one, each with the hours that learnt rows of it before."""
    promote: bool = True
    """Whether a version that passes is released."""
    aside: bool = False
    """Whether the hour is done aside, to replace a finished one."""
    fence: int = 0
    """Fencing number of the run's lease."""
    actor: str = "saec"
    """Who runs the hour, for the release log."""

    @property
    def workspace(self) -> Workspace:
        """The workspace with the hour's files."""
        return Workspace(self.config, aside=self.aside)


@dataclass(frozen=True)
class Trained:
    """The original after the hour, and the served figures of the hour."""

    original: str
    learnt_from: str | None
    """Identity in manifests of the original after the hour before, see `saec.train.identity`; None at the first."""
    at_cut: FileDigest
    """The state of the original at the cut, as far as it has changed since."""
    scores: FileDigest
    """Scores of all rows before they were learnt."""
    cut: int
    """First gate row."""
    rows_gate: int
    features: int
    new_features: int
    served: dict[str, Any]
    """AUC and log loss over the whole hour, of each model as it was when the hour began, and `served_pairs`."""
    slices: dict[str, Any]
    """The same pairs by slice, see `saec.gate.slices`; empty without `report.slices`."""
    watch: dict[str, Any] | None
    """Evidence on the live version from the hours that it served, see `saec.gate.watch`; None without one."""
    logged: dict[str, Any]
    """Figures of the request log for the hour, see `saec.gate.served`; empty without one."""


@dataclass(frozen=True)
class Clustered:
    """The hour's clusters and codes, at the cut and at its end; figures are those of the end."""

    codes: FileDigest
    head: int
    churn: float
    by_field: dict[str, dict[str, float]]
    """Figures of each field's clusters (head, clusters, used, largest_share, error, drift, rebuilt), and what its codes
    saved in the hour (worth, worth_error, worth_rows; not before the first version)."""

    @property
    def utilisation(self) -> float:
        """Share of the clusters that some feature uses."""
        return self._total("used") / max(self._total("clusters"), 1.0)

    def _total(self, figure: str) -> float:
        return sum(figures[figure] for figures in self.by_field.values())


@dataclass(frozen=True)
class Retrained:
    """The challenger after the hour; the files of the candidate and of the version wait for the verdict."""

    challenger: str
    learnt: FileDigest
    """Scores of the gate rows through lagged codes, before and after they were learnt."""
    sizes: dict[str, int]
    figures: dict[str, float]


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on the candidate, and the files to release if it passed."""

    verdict: Verdict
    metrics: dict[str, float]
    """AUC and log loss on the gate rows, of each model at the cut."""
    candidate: tuple[FileDigest, ...]
    """The files that were judged."""
    release: tuple[FileDigest, ...]
    """The files to release: those of the hour's end, or the judged ones if those are not fit for release."""
    problem: str
    """Why the files of the hour's end are not fit for release; empty when they are."""
    recorded: tuple[float, ...]
    """The scores of the recorded rows in the files to release."""


@dataclass(frozen=True)
class Published:
    """How the hour ended."""

    outcome: str
    reason: str | None
    message: str
    version: str | None


@dataclass(frozen=True)
class HourResult:
    """A completed hour: its outcome, the state it left, and everything the report shows."""

    published: Published
    input_sha256: str
    original: str
    record: dict[str, Any]
