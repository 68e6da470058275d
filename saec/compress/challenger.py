"""The challenger: the compressed model, retrained every hour on codebooks instead of on the full table.

It is carried on from hour to hour. Its codewords and network are trained on every row exactly once, through codes that
know nothing of the row (see codes.py): the train rows through the lagged codes, the gate rows, an hour later, through
the fresh codes of the version that was judged on them.

Shapes: B rows, S slots, T codewords of all fields, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.compress.codebooks import Centroids, Codebooks, places
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner, Pass
from saec.train.tensors import Arrays, Snapshot, learner_state, load_network, network_arrays, restore_learner, section

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from saec.compress.codes import HourCodes
    from saec.config import Config
    from saec.train.original import Original


class Challenger:
    """Codebooks of all fields and a network of their own, and the gate rows still to be learnt."""

    def __init__(self, config: Config) -> None:
        """A challenger with a network but no codewords; see `start` and `restore`."""
        fields = len(config.field_names)
        network = build_network(config.model, fields, config.seed)
        self.config = config
        self.learner = Learner(network, Pooling.of(config.slot_fields), config.training)
        self.centroids = Centroids.empty(fields, config.model.width)
        self.codebooks = Codebooks.start(np.zeros((fields, config.model.width), np.float32), self.centroids)
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
        challenger.codebooks = Codebooks.start(original.table.vectors_VD[:fields], challenger.centroids)
        return challenger

    @classmethod
    def restore(cls, config: Config, arrays: Arrays, origin: str) -> Challenger:
        """The challenger whose `snapshot` this was; `origin` names the file for error messages."""
        challenger = cls(config)
        restore_learner(challenger.learner, arrays, origin)
        challenger.centroids = Centroids(**section(arrays, "centroids."))
        challenger.codebooks = Codebooks(**section(arrays, "codebooks."))
        challenger.pending_codes_BS = arrays["pending.codes_BS"]
        challenger.pending_labels_B = arrays["pending.labels_B"]
        return challenger

    def snapshot(self) -> Snapshot:
        """Everything the next hour starts from."""
        arrays = learner_state(self.learner)
        arrays |= {f"centroids.{name}": array for name, array in vars(self.centroids).items()}
        arrays |= {f"codebooks.{name}": array for name, array in vars(self.codebooks).items()}
        arrays |= {"pending.codes_BS": self.pending_codes_BS, "pending.labels_B": self.pending_labels_B}
        return Snapshot(arrays)

    def absorb(self) -> None:
        """Learn the gate rows left over from the hour before, through the codes they were judged with."""
        self._fit(self.pending_codes_BS, self.pending_labels_B)
        self.pending_codes_BS, self.pending_labels_B = self.pending_codes_BS[:0], self.pending_labels_B[:0]

    def retrain(self, codes: HourCodes, labels_B: NDArray[np.uint8], *, learn: bool = True) -> Pass:
        """Learn the hour's train rows through the lagged codes and move on to its clusters; gate rows become pending.

        Args:
            codes: the hour's codes; the lagged ones cover the rows before the cut, the fresh ones those after.
            labels_B: clicks of all its rows.
            learn: False for the first hour, whose rows `start` has brought along with the original's network.
        """
        cut = len(codes.lagged_BS)
        done = Pass(0, 0, 0.0)
        if learn:
            done = self._fit(codes.lagged_BS, labels_B[:cut])
        self.codebooks = self.codebooks.succeeded(codes.succession, codes.centroids)
        self.centroids = codes.centroids
        self.pending_codes_BS, self.pending_labels_B = codes.fresh_BS, labels_B[cut:]
        return done

    def score(self, codes_BS: NDArray[np.int16]) -> NDArray[np.float64]:
        """Probability of a click for each row of codes."""
        return self.learner.score(torch.from_numpy(self.codebooks.vectors_TD), self._places(codes_BS))

    def _fit(self, codes_BS: NDArray[np.int16], labels_B: NDArray[np.uint8]) -> Pass:
        vectors_TD, squares_T = self.codebooks.vectors_TD.copy(), self.codebooks.squares_T.copy()
        working = WorkingSet(np.arange(len(squares_T)), torch.from_numpy(vectors_TD), torch.from_numpy(squares_T))
        done = self.learner.fit(working, self._places(codes_BS), labels_B)
        self.codebooks = Codebooks(vectors_TD, squares_T)
        return done

    def _places(self, codes_BS: NDArray[np.int16]) -> Tensor:
        """Codes within fields as places among all T codewords, -1 for padding."""
        return torch.from_numpy(places(codes_BS, self.centroids.counts_F, self.config.slot_fields))
