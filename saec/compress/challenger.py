"""The challenger: the compressed model, retrained every hour on codebooks instead of on the full table.

It is carried on from hour to hour. Its codewords and network are trained on every row exactly once, through codes that
know nothing of the row (see codes.py): the train rows through the lagged codes, the gate rows, an hour later, through
the fresh codes of the version that was judged on them.

Decisions:
- Before the last stretch of the train rows is learnt, it is scored twice: as retrained on the stretches before it, and
  as not retrained at all. Where retraining has clearly done harm, by more than a standard error of the paired
  difference, the hour's retraining is dropped: the published model is never worse for having been retrained.
- Before the gate rows are learnt, they tell what each field's codes are worth (heads.py).

Shapes: B rows, S slots, F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy

from saec.compress.auto import Auto
from saec.compress.codebooks import Codebooks
from saec.compress.codes import Standards
from saec.compress.places import CLUSTERS, DEFAULT, NEWCOMER, places
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.tensors import Arrays, Snapshot, learner_state, load_network, network_arrays, restore_learner, section

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from saec.compress.codes import HourCodes
    from saec.compress.heads import Worth
    from saec.config import Config
    from saec.train.original import Original


MEASURED_ROWS = 512
"""Pending rows, at most, on which the worth of codes is measured each hour."""


class Challenger:
    """Codebooks of all fields and a network of their own, and the gate rows still to be learnt."""

    def __init__(self, config: Config) -> None:
        """A challenger with a network but no codewords; see `start` and `restore`."""
        fields = len(config.field_names)
        network = build_network(config.model, fields, config.seed)
        self.config = config
        self.learner = Learner(network, Pooling.of(config.slot_fields), config.training)
        self.standards = Standards.start(fields, config.model.width)
        self.auto = Auto.start()
        no_vectors_FD = np.zeros((fields, config.model.width), np.float32)
        self.codebooks = Codebooks.start(no_vectors_FD, self.standards.centroids)
        self.pending_codes_BS = np.zeros((0, len(config.slot_fields)), np.int16)
        self.pending_labels_B = np.zeros(0, np.uint8)

    @classmethod
    def start(cls, original: Original) -> Challenger:
        """The challenger of the first hour: the original's own network and default rows, which need no codes.

        In the first hour no feature is admitted yet, so the original itself has trained on nothing but default rows.
        """
        challenger = cls(original.config)
        fields = original.vocabulary.fields
        load_network(challenger.learner.network, network_arrays(original.learner.network), "the original")
        challenger.codebooks = Codebooks.start(original.table.vectors_VD[:fields], challenger.standards.centroids)
        return challenger

    @classmethod
    def restore(cls, config: Config, arrays: Arrays, origin: str) -> Challenger:
        """The challenger whose `snapshot` this was; `origin` names the file for error messages."""
        challenger = cls(config)
        restore_learner(challenger.learner, arrays, origin)
        challenger.standards = Standards.from_arrays(section(arrays, "standards."))
        challenger.auto = Auto.from_arrays(section(arrays, "auto."))
        challenger.codebooks = Codebooks(**section(arrays, "codebooks."))
        challenger.pending_codes_BS = arrays["pending.codes_BS"]
        challenger.pending_labels_B = arrays["pending.labels_B"]
        return challenger

    def snapshot(self) -> Snapshot:
        """Everything the next hour starts from."""
        arrays = learner_state(self.learner)
        arrays |= {f"standards.{name}": array for name, array in self.standards.arrays().items()}
        arrays |= {f"auto.{name}": array for name, array in self.auto.arrays().items()}
        arrays |= {f"codebooks.{name}": array for name, array in vars(self.codebooks).items()}
        arrays |= {"pending.codes_BS": self.pending_codes_BS, "pending.labels_B": self.pending_labels_B}
        return Snapshot(arrays)

    def absorb(self) -> None:
        """Learn the gate rows left over from the hour before, through the codes they were judged with."""
        self.standards = replace(self.standards, worth=self._worth())
        self._fit(self.pending_codes_BS, self.pending_labels_B)
        self.pending_codes_BS, self.pending_labels_B = self.pending_codes_BS[:0], self.pending_labels_B[:0]

    def retrain(self, codes: HourCodes, labels_B: NDArray[np.uint8], *, learn: bool = True) -> bool:
        """Learn the hour's train rows through the lagged codes and move on to its clusters; gate rows become pending.

        Args:
            codes: the hour's codes; the lagged ones cover the rows before the cut, the fresh ones those after.
            labels_B: clicks of all its rows.
            learn: False for the first hour, whose rows `start` has brought along with the original's network.

        Returns:
            Whether what was learnt is kept.
        """
        cut = len(codes.lagged_BS)
        kept = learn and self._retrain(codes.lagged_BS, labels_B[:cut])
        self.codebooks = self.codebooks.succeeded(codes.succession, codes.standards.centroids)
        self.standards = replace(codes.standards, worth=self.standards.worth)
        self.pending_codes_BS, self.pending_labels_B = codes.fresh_BS, labels_B[cut:]
        return kept

    def score(self, codes_BS: NDArray[np.signedinteger]) -> NDArray[np.float64]:
        """Probability of a click for each row of codes."""
        return self.learner.score(torch.from_numpy(self.codebooks.vectors_TD), self._places(codes_BS))

    def _retrain(self, codes_BS: NDArray[np.int16], labels_B: NDArray[np.uint8]) -> bool:
        """Learn rows in time order unless that turns out to do harm; returns whether they were learnt."""
        last = len(labels_B) - len(labels_B) // self.config.training.stretches
        codebooks, state = self.codebooks, learner_state(self.learner)
        untrained_B = self._losses(codes_BS[last:], labels_B[last:])
        self._fit(codes_BS[:last], labels_B[:last])
        harm_B = self._losses(codes_BS[last:], labels_B[last:]) - untrained_B
        if len(harm_B) > 1 and harm_B.mean() > harm_B.std(ddof=1) / np.sqrt(len(harm_B)):
            self.codebooks = codebooks
            restore_learner(self.learner, state, "the challenger before retraining")
            return False
        self._fit(codes_BS[last:], labels_B[last:])
        return True

    def _fit(self, codes_BS: NDArray[np.int16], labels_B: NDArray[np.uint8]) -> None:
        vectors_TD, squares_T = self.codebooks.vectors_TD.copy(), self.codebooks.squares_T.copy()
        working = WorkingSet(np.arange(len(squares_T)), torch.from_numpy(vectors_TD), torch.from_numpy(squares_T))
        self.learner.fit(working, self._places(codes_BS), labels_B)
        self.codebooks = Codebooks(vectors_TD, squares_T)

    def _worth(self) -> Worth:
        """What codes are worth, with what the pending rows say of it: each field's are taken away in turn."""
        step = -(-len(self.pending_labels_B) // MEASURED_ROWS) or 1
        codes_BS, labels_B = self.pending_codes_BS[::step], self.pending_labels_B[::step]
        slot_fields_S = np.array(self.config.slot_fields)
        losses_B = self._losses(codes_BS, labels_B)
        saved_2F = np.zeros((2, len(self.config.field_names)))
        sightings_2F = np.zeros_like(saved_2F)
        for newcomers, field in np.ndindex(*saved_2F.shape):
            taken_BS = (slot_fields_S == field) & (codes_BS == NEWCOMER if newcomers else codes_BS >= CLUSTERS)
            concerned_B = taken_BS.any(1)
            without_BS = np.where(taken_BS, DEFAULT, codes_BS)[concerned_B]
            added_B = self._losses(without_BS, labels_B[concerned_B]) - losses_B[concerned_B]
            saved_2F[newcomers, field] = added_B.sum()
            sightings_2F[newcomers, field] = taken_BS.sum()
        return self.standards.worth.learned(saved_2F, sightings_2F)

    def _losses(self, codes_BS: NDArray[np.signedinteger], labels_B: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Log loss of each row (nats)."""
        scores, labels = torch.from_numpy(self.score(codes_BS)), torch.from_numpy(labels_B.astype(np.float64))
        losses_B: NDArray[np.float64] = binary_cross_entropy(scores, labels, reduction="none").numpy()
        return losses_B

    def _places(self, codes_BS: NDArray[np.signedinteger]) -> Tensor:
        """Codes within fields as places among all T codewords, -1 for padding."""
        counts_F = self.standards.centroids.counts_F
        return torch.from_numpy(places(codes_BS, counts_F, self.config.slot_fields))
