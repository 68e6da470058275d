"""Measures how well columns predict clicks: rates from earlier rows, tested on later rows.

Decisions: the click rates of values are shrunk towards the overall rate, so that a value seen once has little effect. A
cross is worth trying if both values together predict better than each alone: it is compared with a model that adds up
the effects of single fields, and must lower the log loss of later rows significantly. As in serving, a few single hours
are each scored by what the hours before have taught.

Shapes: B rows, V values of a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from saec.gate.metrics import auc

_PRIOR = 20.0
"""Rows that a value's click rate is drawn towards the whole by."""
_PRECISION = 2.0
"""Shrinkage of effects on the logit, in units of a row's variance."""
_ROUNDS = 3
_STANDARD_ERRORS = 3.0
_LEAST_GAIN = 0.0004
"""Of a cross: share of the base rate's entropy."""
MOST_CROSSES = 5
_MOST_FIELDS = 16

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def single_auc(codes_B: Codes, labels_B: NDArray[np.uint8], late_B: NDArray[np.bool_]) -> float | None:
    """AUC of one column alone on the later rows; None where they are all of one label."""
    early_B = ~late_B
    if not 0 < int(labels_B[late_B].sum()) < int(late_B.sum()):
        return None
    size = int(codes_B.max()) + 1
    rows_V = np.bincount(codes_B[early_B], minlength=size)
    clicks_V = np.bincount(codes_B[early_B], labels_B[early_B], minlength=size)
    rate_V = (clicks_V + _PRIOR * labels_B[early_B].mean()) / (rows_V + _PRIOR)
    return auc(labels_B[late_B], rate_V[codes_B[late_B]])


class Additive:
    """A model that adds up what each field says alone: learnt on earlier rows, an offset to measure crosses against."""

    def __init__(
        self,
        fields: Mapping[str, Codes],
        labels_B: NDArray[np.uint8],
        early_B: NDArray[np.bool_],
        late_B: NDArray[np.bool_],
    ) -> None:
        """Learn it on the early rows; a few rounds over the fields, each time what is left over."""
        self.fields, self.early_B, self.late_B = fields, early_B, late_B
        self.labels_B = labels_B.astype(np.float64)
        rate = float(np.clip(self.labels_B[early_B].mean(), 1e-6, 1 - 1e-6))
        self.bias = float(np.log(rate / (1 - rate)))
        self.entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        self.logits_B = np.full(len(labels_B), self.bias)
        self.gains: dict[str, float] = dict.fromkeys(fields, 0.0)
        for _ in range(_ROUNDS):
            for name, codes_B in fields.items():
                before = self._loss(self.logits_B)
                self.logits_B = self.logits_B + self._effect(codes_B, self.logits_B)
                self.gains[name] += float((before - self._loss(self.logits_B)).mean())

    def saved(self, pair_B: Codes, *parts: str) -> Floats:
        """What a cross adds to the model: log loss saved on each later row, once its parts have had another round."""
        logits_B = self.logits_B
        for name in parts:
            logits_B = logits_B + self._effect(self.fields[name], logits_B)
        return self._loss(logits_B) - self._loss(logits_B + self._effect(pair_B, logits_B))

    @property
    def sureness(self) -> float:
        """How far from the bias, on the logit, later rows really are in the surest twentieth, upwards or downwards."""
        label_B = self.labels_B[self.late_B][np.argsort(self.logits_B[self.late_B], kind="stable")]
        size = max(len(label_B) // 20, 1)
        rates = [(part.sum() + 1.0) / (len(part) + 2.0) for part in (label_B[:size], label_B[-size:])]
        return max(abs(float(np.log(rate / (1.0 - rate))) - self.bias) for rate in rates)

    def _effect(self, codes_B: Codes, logits_B: Floats) -> Floats:
        """One step on the logit for each row's value, by what earlier rows have left over."""
        early_B = self.early_B
        probability_B = _sigmoid(logits_B[early_B])
        size = int(codes_B.max()) + 1
        left_V = np.bincount(codes_B[early_B], self.labels_B[early_B] - probability_B, minlength=size)
        weight_V = np.bincount(codes_B[early_B], probability_B * (1 - probability_B), minlength=size)
        effect_V: Floats = np.clip(left_V / (weight_V + _PRECISION), -2.0, 2.0)
        return effect_V[codes_B]

    def _loss(self, logits_B: Floats) -> Floats:
        """Log loss of the later rows."""
        logit_B, label_B = logits_B[self.late_B], self.labels_B[self.late_B]
        loss_B: Floats = np.logaddexp(0.0, logit_B) - label_B * logit_B
        return loss_B


def crosses(models: Sequence[Additive], names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of fields worth a cross, the best first, each with the log loss that it saves a row.

    Args:
        models: of all fields, each of another hour.
        names: fields that may be crossed; those that say most alone are tried.
    """
    ranked = sorted(names, key=lambda name: -sum(model.gains[name] for model in models))[:_MOST_FIELDS]
    fields, entropy = models[0].fields, models[0].entropy
    found = []
    for one, other in combinations(sorted(ranked, key=list(names).index), 2):
        pair_B = np.unique(fields[one] * (int(fields[other].max()) + 1) + fields[other], return_inverse=True)[1]
        saved = np.concatenate([model.saved(pair_B, one, other) for model in models])
        gain, error = float(saved.mean()), float(saved.std() / np.sqrt(len(saved)))
        if gain > max(_STANDARD_ERRORS * error, _LEAST_GAIN * entropy):
            found.append((one, other, gain))
    return sorted(found, key=lambda cross: -cross[2])[:MOST_CROSSES]


def _sigmoid(logits_B: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logits_B)))
