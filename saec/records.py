"""What the steps of an hour hand each other: names, digests and figures, never data.

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
    """Version to compare with: the live one, or in a backfill the last published before this hour."""
    before_live: str | None = None
    """The version that was live before the champion, if the champion is live and was published."""
    watch: dict[str, Any] | None = None
    """What the hours before say of what is live, see `saec.gate.watch`, as the record keeps it."""
    evidence: dict[str, Any] | None = None
    """What the gate knows of the line from the hours before, as the record keeps it."""
    click_rates: tuple[float, ...] = ()
    """Click rates of the hours before, to tell a shift of the labels by."""
    late: dict[Hour, tuple[Hour, ...]] = field(default_factory=dict)
    """Earlier hours whose late rows are learnt with this one, each with the hours that learnt rows of it before."""
    promote: bool = True
    """Whether a version that passes is released."""
    aside: bool = False
    """Whether the hour is done aside, in place of one that stands."""
    fence: int = 0
    """Fencing number of the run's lease."""
    actor: str = "saec"
    """Who runs it, for the release log."""

    @property
    def workspace(self) -> Workspace:
        """Where the hour's files lie."""
        return Workspace(self.config, aside=self.aside)


@dataclass(frozen=True)
class Trained:
    """The original after the hour, and how the models that met the hour did on it."""

    original: str
    learnt_from: str | None
    """What the original after the hour before is called in manifests, see `saec.train.identity`; None at the first."""
    at_cut: FileDigest
    """What the original was at the cut, as far as it has changed since."""
    scores: FileDigest
    """Scores of all rows by the models that met them."""
    cut: int
    """First gate row."""
    rows_gate: int
    features: int
    new_features: int
    served: dict[str, Any]
    """AUC and log loss over the whole hour, of each model as it stood when the hour began, and `served_pairs`."""
    slices: dict[str, Any]
    """The same pairs by slice, see `saec.gate.slices`; empty without `report.slices`."""
    watch: dict[str, Any] | None
    """What the hours that the live version served say of it, see `saec.gate.watch`; None without one."""
    logged: dict[str, Any]
    """What the request log says of the hour, see `saec.gate.served`; nothing without one."""


@dataclass(frozen=True)
class Clustered:
    """The hour's clusters and codes, at the cut and at its end; figures are those of the end."""

    codes: FileDigest
    head: int
    churn: float
    by_field: dict[str, dict[str, float]]
    """How the clusters of each field live (head, clusters, used, largest_share, error, drift, rebuilt), and what its
    codes saved in the hour (worth, worth_error, worth_rows; not before the first version)."""

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
    """Scores of the gate rows through the codes that met them, before and after they were learnt."""
    sizes: dict[str, int]
    figures: dict[str, float]


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on the candidate, and what is to be released if it passed."""

    verdict: Verdict
    metrics: dict[str, float]
    """AUC and log loss on the gate rows, of each model at the cut."""
    candidate: tuple[FileDigest, ...]
    """The files that were judged."""
    release: tuple[FileDigest, ...]
    """The files to be released: those of the hour's end, or the judged ones where these are not fit for it."""
    problem: str
    """Why the files of the hour's end are not fit for release; empty when they are."""
    recorded: tuple[float, ...]
    """The scores of the rows that the files to be released bring along."""


@dataclass(frozen=True)
class Published:
    """How the hour ended."""

    outcome: str
    reason: str | None
    message: str
    version: str | None


@dataclass(frozen=True)
class HourResult:
    """An hour that ran through: how it ended, the state it left, and everything the report shows."""

    published: Published
    input_sha256: str
    original: str
    record: dict[str, Any]
