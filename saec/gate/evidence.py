"""Keeps the evidence on a model line as sums, which add up from hour to hour and fit in the hour's record.

A line is the sequence of compressed models from hour to hour, one candidate per hour. Every row is scored, before it is
learnt, by the line's newest model and by its references at the same moment. Decisions:

- *Strata.* Rows are ranked only against rows that the same models scored, so each of the two parts of an hour is a
  stratum. The AUC is the mean of the clicked rows' placements, each among the rows without a click of its own stratum;
  strata of one label only have no pairs and add to the log loss alone.
- *Its variance* has DeLong's two terms. With P clicked rows in all, of which p in a stratum with n others,

      P^2 variance = sum over clicked rows (gap - mean)^2 + sum over the others (p / n)^2 (gap - mean)^2

  each with its N / (N - 1), where a row's gap is the difference of its placements under the two models. With one
  stratum that is DeLong's to the last term; with strata of a single click, which have no variance of their own, it
  still is one, as all clicked rows are taken together.
- *The base rate* of the rows is known only when all have come, so the line's losses are kept by label.

Shapes: B rows of a stratum, P with label 1, N with label 0.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self, get_type_hints

import numpy as np

from saec.gate.delong import Placements, placements, variance_of_mean
from saec.gate.metrics import Floats, Labels, Weights, row_losses


@dataclass(frozen=True, slots=True)
class Additive:
    """Sums of rows: two of them add up, field by field, and they travel as JSON."""

    def __add__(self, other: Self) -> Self:
        """The sums of both sets of rows."""
        return type(self)(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    @classmethod
    def from_dict(cls, known: dict[str, Any]) -> Self:
        """Restore it from the output of `dataclasses.asdict`, sent through JSON."""
        kinds = get_type_hints(cls)
        return cls(
            **{
                name: kinds[name].from_dict(value) if isinstance(value, dict) else value
                for name, value in known.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Sums(Additive):
    """Values with weights."""

    weight: float = 0.0
    """Sum of the weights; the number of values where each weighs 1."""
    total: float = 0.0
    """Sum of the values, weighted."""
    squares: float = 0.0
    """Sum of their squares, weighted."""

    @classmethod
    def of(cls, values: Floats, weight: float = 1.0, stand_for: Weights = None) -> Sums:
        """The sums of some values, each with weight 1 or with the number of rows that its row stands for.

        With weights, the sum of squares is chosen so that the standard error is that of the weighted mean: a row that
        stands for a hundred rows is still only one observation.
        """
        if stand_for is not None:
            total = float(stand_for.sum())
            mean = float(stand_for @ values) / total
            error = variance_of_mean(values, stand_for) if values.size > 1 else 0.0
            squares = error * total * max(total - 1.0, 0.0) + mean * mean * total
            return cls(weight * total, weight * mean * total, weight * squares)
        return cls(weight * values.size, weight * float(values.sum()), weight * float((values * values).sum()))

    @property
    def mean(self) -> float:
        """Weighted mean, nan for no weight."""
        return self.total / self.weight if self.weight else math.nan

    def scatter(self, around: float) -> float:
        """Weighted sum of the squared distances from a point."""
        return max(0.0, self.squares - 2.0 * around * self.total + around * around * self.weight)

    @property
    def standard_error(self) -> float:
        """Of the mean of values that each weigh 1; nan for fewer than two."""
        if self.weight < 2:
            return math.nan
        return math.sqrt(self.scatter(self.mean) / (self.weight - 1) / self.weight)


@dataclass(frozen=True, slots=True)
class Ranks(Additive):
    """Differences of placements between two models; their mean is the difference of the AUC over all strata."""

    positive: Sums = field(default_factory=Sums)
    """Of the clicked rows, each weighing 1."""
    negative: Sums = field(default_factory=Sums)
    """Of the other rows, each weighing (p / n)^2."""
    negatives: int = 0
    """How many of these."""

    @classmethod
    def of(cls, line: Placements, reference: Placements) -> Ranks:
        """Of one stratum; nothing for one label."""
        count_P, count_N = line.positive_P.size, line.negative_N.size
        if not count_P or not count_N:
            return cls()
        gap_P, gap_N = line.positive_P - reference.positive_P, line.negative_N - reference.negative_N
        if line.weights_P is not None and line.weights_N is not None:
            ratio = float(line.weights_P.sum() / line.weights_N.sum())
            return cls(
                Sums.of(gap_P, stand_for=line.weights_P),
                Sums.of(gap_N, ratio**2, line.weights_N),
                max(round(float(line.weights_N.sum())), 1),
            )
        return cls(Sums.of(gap_P), Sums.of(gap_N, (count_P / count_N) ** 2), count_N)

    @property
    def standard_error(self) -> float:
        """Of the difference of the AUC; nan for fewer than two rows of a label."""
        count_P, count_N = self.positive.weight, self.negatives
        if count_P < 2 or count_N < 2:
            return math.nan
        mean = self.positive.mean
        squared = self.positive.scatter(mean) * count_P / (count_P - 1) + self.negative.scatter(mean) * count_N / (
            count_N - 1
        )
        return math.sqrt(squared) / count_P


@dataclass(frozen=True, slots=True)
class Levels(Additive):
    """One model's own figures, summed over rows."""

    predicted: float = 0.0
    """Probabilities: predicted clicks."""
    loss: float = 0.0
    """Log loss, nats."""
    placements: float = 0.0
    """Placements of the clicked rows in strata of both labels."""


@dataclass(frozen=True, slots=True)
class Pair(Additive):
    """The line beside one reference on the same rows."""

    rows: int = 0
    """How many."""
    positives: int = 0
    """Of them with label 1."""
    loss: Sums = field(default_factory=Sums)
    """Differences of the rows' log loss, line minus reference, nats."""
    ranks: Ranks = field(default_factory=Ranks)
    """Differences of placements, line minus reference."""
    line: Levels = field(default_factory=Levels)
    """The line's own figures."""
    reference: Levels = field(default_factory=Levels)
    """The reference's."""

    @staticmethod
    def of(labels_B: Labels, line_B: Floats, reference_B: Floats, weights_B: Weights = None) -> Pair:
        """Of one stratum; nothing for no rows.

        Args:
            labels_B: uint8 [B], 0 or 1.
            line_B: float64 [B], probabilities of the line.
            reference_B: float64 [B], of the reference.
            weights_B: float64 [B], how many rows each stands for.
        """
        if not labels_B.size:
            return Pair()
        line, reference = (_Stratum.of(labels_B, scores_B, weights_B) for scores_B in (line_B, reference_B))
        return line.beside(reference)


@dataclass(frozen=True, slots=True)
class Alone(Additive):
    """The line by itself, for the comparison with the share of clicks of the same rows."""

    rows: int = 0
    """How many."""
    positives: int = 0
    """Of them with label 1."""
    loss: Sums = field(default_factory=Sums)
    """Log loss of the rows, nats."""
    predicted: float = 0.0
    """Probabilities: predicted clicks."""
    loss_positives: float = 0.0
    """Of it, that of the rows with label 1."""
    ranks: Ranks = field(default_factory=Ranks)
    """Placements minus a half."""
    excess_positives: Sums = field(default_factory=Sums)
    """Log loss of the rows with label 1, each weighted by n^2 - n if it stands for n rows; 0 where each stands for
    itself. A standard error computed from `loss` alone would leave this out."""
    excess_negatives: Sums = field(default_factory=Sums)
    """The same of the other rows."""

    @property
    def entropy(self) -> float:
        """Log loss, nats per row, of always predicting these rows' share of clicks."""
        if not self.rows:
            return math.nan
        shares = (self.positives / self.rows, 1.0 - self.positives / self.rows)
        return -sum(share * math.log(share) for share in shares if share > 0.0)

    @property
    def loss_gap(self) -> Sums:
        """Differences of the rows' log loss, line minus base rate, nats."""
        rate = self.positives / self.rows if self.rows else math.nan
        if not 0.0 < rate < 1.0:  # a base rate of 0 or 1 is right for certain on every row
            return self._widened(self.loss, 0.0, 0.0)
        clicked, other = -math.log(rate), -math.log1p(-rate)
        negatives, loss_negatives = self.rows - self.positives, self.loss.total - self.loss_positives
        crossed = clicked * self.loss_positives + other * loss_negatives
        return self._widened(
            Sums(
                self.rows,
                self.loss.total - self.positives * clicked - negatives * other,
                self.loss.squares - 2.0 * crossed + self.positives * clicked**2 + negatives * other**2,
            ),
            clicked,
            other,
        )

    def _widened(self, gap: Sums, clicked: float, other: float) -> Sums:
        """Differences from the base rate's loss on a row of each label, widened for rows that stand for several."""
        more = sum(
            excess.scatter(constant + gap.mean)
            for excess, constant in ((self.excess_positives, clicked), (self.excess_negatives, other))
            if excess.weight
        )
        return Sums(gap.weight, gap.total, gap.squares + more) if more else gap


@dataclass(frozen=True, slots=True)
class Evidence:
    """The state of a model line, and its running test.

    Examples:
        >>> Evidence.from_dict(Evidence(hours=3, qualified=True).as_dict()).hours
        3
    """

    pairs: dict[str, Pair] = field(default_factory=dict)
    """By reference: `original`, and `champion` where there is one."""
    alone: Alone = field(default_factory=Alone)
    """The line by itself, on the rows of the running test."""
    before: Alone = field(default_factory=Alone)
    """The same for the last test that passed, because a new test at first says little about the base rate."""
    hours: int = 0
    """Hours in the running test."""
    qualified: bool = False
    """Whether a test has passed and none has failed since: the hours of a qualified line are published."""
    tried: int = 0
    """Tests in a row that ended without passing; each lowers the error that the next may make."""
    live: Pair = field(default_factory=Pair)
    """The line against the live version, on the hours since its release, across tests."""

    def with_stratum(
        self, labels_B: Labels, line_B: Floats, references: dict[str, Floats], weights_B: Weights = None
    ) -> Evidence:
        """The evidence with one more stratum: rows that the same models have scored. No rows change nothing.

        Args:
            labels_B: uint8 [B], 0 or 1.
            line_B: float64 [B], probabilities of the line.
            references: float64 [B] by name.
            weights_B: float64 [B], how many rows each stands for.
        """
        if not labels_B.size:
            return self
        line, half = _Stratum.of(labels_B, line_B, weights_B), np.full(labels_B.size, 0.5)
        hour = {
            name: line.beside(_Stratum.of(labels_B, reference_B, weights_B)) for name, reference_B in references.items()
        }
        pairs = {name: self.pairs.get(name, Pair()) + pair for name, pair in hour.items()}
        live = self.live + hour["champion"] if "champion" in references else Pair()
        alone = line.alone(labels_B, placements(labels_B, half, weights_B))
        return replace(self, pairs=pairs, alone=self.alone + alone, live=live)

    def afresh(self, *, qualified: bool, passed: bool) -> Evidence:
        """Start a new test after one has ended.

        Args:
            qualified: whether the line is qualified from now on.
            passed: whether the test did.
        """
        return Evidence(
            before=self.alone if qualified else Alone(),
            qualified=qualified,
            tried=0 if passed or (qualified and self.qualified) else self.tried + 1,
            live=self.live,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: plain finite values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, known: dict[str, Any]) -> Evidence:
        """From `as_dict`, through JSON."""
        pairs = {name: Pair.from_dict(pair) for name, pair in known["pairs"].items()}
        return cls(
            pairs,
            Alone.from_dict(known["alone"]),
            Alone.from_dict(known["before"]),
            known["hours"],
            known["qualified"],
            known["tried"],
            Pair.from_dict(known["live"]) if "live" in known else Pair(),  # a record from before this rule
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Stratum:
    """One model on rows that are ranked among themselves."""

    placements: Placements
    """For the AUC."""
    row_losses_B: Floats
    """For the log loss."""
    levels: Levels
    """Its own figures."""
    weights_B: Weights
    """How many rows each stands for."""
    clicks: float
    """Clicks that the rows with label 1 stand for."""

    @classmethod
    def of(cls, labels_B: Labels, probabilities_B: Floats, weights_B: Weights) -> _Stratum:
        """Of probabilities that are all in [0, 1]."""
        placed = placements(labels_B, probabilities_B, weights_B)
        losses_B = row_losses(labels_B, probabilities_B)
        placed_P = placed.positive_P if math.isfinite(placed.auc) else placed.positive_P[:0]
        levels = Levels(
            _sum(probabilities_B, weights_B),
            _sum(losses_B, weights_B),
            _sum(placed_P, placed.weights_P if placed_P.size else None),
        )
        return cls(placed, losses_B, levels, weights_B, _sum(labels_B.astype(np.float64), weights_B))

    def beside(self, reference: _Stratum) -> Pair:
        """The sums of this model, the line, beside a reference."""
        gap_B, (rows, positives) = self.row_losses_B - reference.row_losses_B, self._counts
        return Pair(
            rows,
            positives,
            Sums.of(gap_B, stand_for=self.weights_B),
            Ranks.of(self.placements, reference.placements),
            self.levels,
            reference.levels,
        )

    def alone(self, labels_B: Labels, half: Placements) -> Alone:
        """The sums of this model, the line, by itself."""
        (rows, positives), clicked_B = self._counts, labels_B == 1
        found = Alone(
            rows,
            positives,
            Sums.of(self.row_losses_B),
            self.levels.predicted,
            float(self.row_losses_B[clicked_B].sum()),
            Ranks.of(self.placements, half),
        )
        if self.weights_B is None:
            return found
        excess_B = self.weights_B * (self.weights_B - 1.0)
        return replace(
            found,
            loss=_weighted(self.row_losses_B, self.weights_B),
            loss_positives=_sum(self.row_losses_B[clicked_B], self.weights_B[clicked_B]),
            excess_positives=_weighted(self.row_losses_B[clicked_B], excess_B[clicked_B]),
            excess_negatives=_weighted(self.row_losses_B[~clicked_B], excess_B[~clicked_B]),
        )

    @property
    def _counts(self) -> tuple[int, int]:
        """Rows, and those with label 1, that these stand for."""
        count_P = self.placements.positive_P.size
        if self.weights_B is None or not self.weights_B.size:
            return self.row_losses_B.size, count_P
        return max(round(float(self.weights_B.sum())), 1), round(self.clicks)


def _sum(values: Floats, weights: Weights) -> float:
    """Sum over rows, each counted as often as the rows it stands for."""
    return float(values.sum()) if weights is None else float(weights @ values)


def _weighted(values: Floats, weights: Floats) -> Sums:
    """Weighted sums, without correction for rows that stand for several."""
    return Sums(float(weights.sum()), float(weights @ values), float(weights @ (values * values)))
