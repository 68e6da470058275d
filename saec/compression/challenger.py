"""The challenger: the compressed model, retrained every hour on codebooks instead of on the full table.

It continues from hour to hour. Its codewords and network learn every row exactly once, through the codes that the
version made from the hour before gives the row. These codes have not seen the row, and users were served through them
(see codes.py). That version's files are part of the challenger's state.

Decisions:
- It starts like the original: the same network, and codewords at the original's first default rows. It has no class
  rows, because the clustered vectors already include them (codes.py).
- Before an hour is learnt, its rows measure what each field's codes are worth (heads.py), because they are the rows
  that the version served. They also tell which share of the score the quantised original should have (ensemble.py).

Shapes: B rows, S slots, F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.compression.auto import Auto
from saec.compression.carried import carried_challenger
from saec.compression.codebooks import Codebooks
from saec.compression.codes import Standards
from saec.compression.dial import warmed
from saec.compression.ensemble import QuantisedOriginal, Share, mixed
from saec.compression.places import CLUSTERS, DEFAULT, NEWCOMER, places
from saec.gate.metrics import auc, row_losses
from saec.model.networks import build_network
from saec.model.table import WorkingSet, first_values, shared_keys
from saec.serving import Model
from saec.store.manifest import entries
from saec.store.objects import FileEntry
from saec.train.batches import Pooling
from saec.train.learner import Learner, probabilities
from saec.train.tensors import Arrays, Snapshot, learner_state, load_network, restore_learner, section

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from saec.compression.codes import Coding
    from saec.compression.heads import Worth
    from saec.compression.moments import HourPast
    from saec.config import Config
    from saec.data.hashing import Keys
    from saec.model.networks import CtrNetwork

MEASURED_ROWS = 512
"""Rows of an hour, at most, on which the worth of a field's codes is measured: of those that have any, so that a field
with few codes is known as well as one with many."""


class Challenger:
    """Codebooks of all fields, their network, and the files of the version last made from them.

    Examples:
        >>> from saec.config import Config
        >>> config = Config.model_validate(
        ...     {
        ...         "data": {"source": "clicks", "time_column": "time", "label_column": "clicked"},
        ...         "fields": [{"name": "user"}],
        ...         "model": {"width": 4, "hidden": [8]},
        ...     }
        ... )
        >>> challenger = Challenger(config)
        >>> codes_BS = challenger.codes(np.array([[5], [9], [5]], np.uint64))
        >>> codes_BS.ravel()  # before the first version every feature uses the default codeword
        array([0, 0, 0])
        >>> challenger.learn(codes_BS, np.array([1, 0, 1], np.uint8))
        >>> challenger.score(codes_BS).shape
        (3,)
    """

    def __init__(self, config: Config) -> None:
        """A challenger that has seen nothing."""
        fields, width = len(config.field_names), config.model.width
        network = build_network(config.model, fields, config.seed)
        self.config = config
        self.learner = Learner(network, Pooling.of(config.slot_fields), config.training)
        self.standards = Standards.start(fields, width)
        self.auto = Auto.start()
        defaults_FD = first_values(shared_keys(config.field_names, 1), width, config.seed)
        self.codebooks = Codebooks.start(defaults_FD, self.standards.centroids)
        self.quantised: QuantisedOriginal | None = None
        """The original over the codes of the version made from the hour before; None before the first."""
        self.share = Share.start()
        self.files: dict[str, bytes] = {}
        self.sources_F: tuple[int, ...] | None = None
        """If the version in `files` has other fields: for each field its index among those, -1 for a new one."""
        self._opened: tuple[dict[str, bytes], Model] | None = None
        self._loaded: tuple[QuantisedOriginal, CtrNetwork] | None = None

    @classmethod
    def restore(
        cls, config: Config, arrays: Arrays, origin: str, sources_F: tuple[int, ...] | None = None
    ) -> Challenger:
        """The challenger whose `snapshot` this was.

        Args:
            config: all settings.
            arrays: the snapshot.
            origin: names the file for error messages.
            sources_F: if it was of other fields: for each field its index among those, -1 for a new one.
        """
        challenger = cls(config)
        if sources_F is not None:
            arrays, challenger.sources_F = carried_challenger(config, arrays, sources_F), sources_F
        restore_learner(challenger.learner, arrays, origin)
        challenger.standards = Standards.from_arrays(section(arrays, "standards."))
        challenger.auto = Auto.from_arrays(section(arrays, "auto."))
        challenger.codebooks = Codebooks(**section(arrays, "codebooks."))
        quantised = section(arrays, "quantised.")
        challenger.quantised = QuantisedOriginal.from_arrays(quantised) if quantised else None
        challenger.share = Share.from_arrays(section(arrays, "share."))
        challenger.files = {name: array.tobytes() for name, array in section(arrays, "files.").items()}
        return challenger

    def snapshot(self) -> Snapshot:
        """Everything the next hour starts from."""
        arrays = learner_state(self.learner)
        arrays |= {f"standards.{name}": array for name, array in self.standards.arrays().items()}
        arrays |= {f"auto.{name}": array for name, array in self.auto.arrays().items()}
        arrays |= {f"codebooks.{name}": array for name, array in vars(self.codebooks).items()}
        arrays |= {f"share.{name}": array for name, array in self.share.arrays().items()}
        if self.quantised:
            arrays |= {f"quantised.{name}": array for name, array in self.quantised.arrays().items()}
        arrays |= {f"files.{name}": np.frombuffer(data, np.uint8) for name, data in self.files.items()}
        return Snapshot(arrays)

    @property
    def version(self) -> Model | None:
        """The version made from the hour before, read back from its files; None before the first."""
        if self.files and (self._opened is None or self._opened[0] is not self.files):
            self._opened = self.files, Model(Path("the version made from the hour before"), {}, self.files)
        return self._opened[1] if self.files and self._opened else None

    def made(self, model: Model) -> bool:
        """Whether a stored version is the one made from the hour before, by the bytes of its files."""
        files = entries(model.manifest)
        return bool(self.files) and all(files.get(name) == FileEntry.of(data) for name, data in self.files.items())

    def codes(self, keys: Keys, fields: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The codes of features in the version made from the hour before; before the first version all are default.

        Args:
            keys: feature keys of any shape, 0 for padding.
            fields: their fields, in a shape that broadcasts; by default those of the S slots.
        """
        version = self.version
        if version is None:
            return np.where(keys == 0, -1, DEFAULT)
        if self.sources_F is None:
            return version.codes(keys, fields)
        sources = np.array(self.sources_F)[np.array(self.config.slot_fields) if fields is None else fields]
        codes = version.codes(keys, np.maximum(sources, 0))
        return np.where((codes >= 0) & (sources < 0), DEFAULT, codes)

    def learn(
        self,
        codes_BS: NDArray[np.signedinteger],
        labels_B: NDArray[np.uint8],
        weights_B: NDArray[np.float64] | None = None,
    ) -> None:
        """Learn rows, with their weights, through the codes of the version made from the hour before."""
        vectors_TD, squares_T = self.codebooks.vectors_TD.copy(), self.codebooks.squares_T.copy()
        working = WorkingSet(np.arange(len(squares_T)), torch.from_numpy(vectors_TD), torch.from_numpy(squares_T))
        self.learner.fit(working, self._places(codes_BS), labels_B, weights_B=weights_B)
        self.codebooks = Codebooks(vectors_TD, squares_T)

    def moved_on(self, coding: Coding) -> Challenger:
        """The challenger with the clusters of a moment; it shares the network, without a copy."""
        moved = copy.copy(self)
        moved.codebooks = self.codebooks.succeeded(coding.succession, coding.standards.centroids)
        moved.standards = coding.standards
        moved.quantised = coding.quantised
        return moved

    @property
    def models(self) -> int:
        """Models that a version holds: the retrained one, and the quantised original where it has a share."""
        return 2 if self.quantised_share else 1

    @property
    def quantised_share(self) -> float:
        """The share of the quantised original in the score; 0 before there is one."""
        return self.share.value if self.quantised else 0.0

    def score(self, codes_BS: NDArray[np.signedinteger]) -> NDArray[np.float64]:
        """Probability of a click for each row of codes, by the ensemble."""
        places_BS, share = self._places(codes_BS), self.quantised_share
        retrained_B = self._retrained(places_BS)
        return probabilities(mixed(retrained_B, self._quantised(places_BS), share) if share else retrained_B)

    def _retrained(self, places_BS: Tensor) -> NDArray[np.float64]:
        """Logits of the retrained model."""
        return self.learner.logits(torch.from_numpy(self.codebooks.vectors_TD), places_BS)

    def _quantised(self, places_BS: Tensor) -> NDArray[np.float64]:
        """Logits of the quantised original."""
        assert self.quantised is not None
        if self._loaded is None or self._loaded[0] is not self.quantised:
            network = copy.deepcopy(self.learner.averaged)
            load_network(network, self.quantised.network, "the quantised original")
            self._loaded = self.quantised, network
        vectors_TD = torch.from_numpy(self.quantised.vectors_TD)
        return self.learner.logits(vectors_TD, places_BS, network=self._loaded[1])

    @property
    def ratio(self) -> float:
        """The ratio of the next version."""
        dial = self.config.compression
        return self.auto.ratio if dial.ratio == "auto" else warmed(dial, dial.ratio, self.standards.hours)

    @property
    def trials(self) -> list[float]:
        """Larger ratios on trial."""
        return self.auto.trials if self.config.compression.ratio == "auto" else []

    def measure(
        self,
        past: HourPast,
        codes_BS: NDArray[np.int16],
        labels_B: NDArray[np.uint8],
        original_B: NDArray[np.float64],
        weights_B: NDArray[np.float64] | None = None,
    ) -> Arrays:
        """Measure on all rows of the hour, before it is learnt, how the version that served it did.

        Args:
            past: the hour.
            codes_BS: codes of its rows, from `codes`.
            labels_B: its clicks.
            original_B: scores of the original when the hour began.
            weights_B: how many rows each stands for; None where each stands for itself.

        Returns:
            What the codes of each field saved in the hour (F): `worth`, log loss in nats a row, its standard error
            `worth_error`, and `worth_rows`, how many rows those that were measured stand for; empty before the first
            version.
        """
        if self.quantised:
            places_BS, shares_B = self._places(codes_BS), 1.0 if weights_B is None else weights_B / weights_B.mean()
            retrained_B, quantised_B = self._retrained(places_BS), self._quantised(places_BS)
            self.share = self.share.learned(labels_B, retrained_B, quantised_B, shares_B)
        if self.config.compression.ratio == "auto":
            self.auto = self._weighed(past, codes_BS, labels_B, original_B, weights_B)
        worth, figures_F = self._worth(codes_BS, labels_B, weights_B)
        self.standards = replace(self.standards, returns=past.returned(self.standards.returns), worth=worth)
        return figures_F if self.files else {}

    def _weighed(
        self,
        past: HourPast,
        codes_BS: NDArray[np.int16],
        labels_B: NDArray[np.uint8],
        original_B: NDArray[np.float64],
        weights_B: NDArray[np.float64] | None,
    ) -> Auto:
        """Evidence from the hour on its ratio and on each ratio on trial, whose heads have fewer codes."""
        if not self.files or len(self.standards.trials_T) != len(self.auto.trials):
            return self.auto  # the version that served the hour was made without the dial
        if not 0 < labels_B.sum() < len(labels_B):
            return self.auto  # rows of one class have no AUC
        trials = len(self.standards.trials_T)
        tried_BS = past.features.spread(self.standards.tried(past.before()), padding=trials)
        heads = [codes_BS, *(np.where(tried_BS > trial, codes_BS, DEFAULT) for trial in range(trials))]
        scores_TB = [self.score(head_BS) for head_BS in heads]
        losses_B, auc_original = row_losses(labels_B, original_B), auc(labels_B, original_B, weights_B)
        shares = 1.0 if weights_B is None else weights_B / weights_B.mean()
        return self.auto.learned(
            [(row_losses(labels_B, scores_B) - losses_B) * shares for scores_B in scores_TB],
            [auc(labels_B, scores_B, weights_B) - auc_original for scores_B in scores_TB],
        )

    def _worth(
        self, codes_BS: NDArray[np.int16], labels_B: NDArray[np.uint8], weights_B: NDArray[np.float64] | None
    ) -> tuple[Worth, Arrays]:
        """The worth of codes, updated, and the new measurement alone: the codes of one field at a time are removed."""
        shares_B = np.ones(len(labels_B)) if weights_B is None else weights_B / weights_B.mean()
        slot_fields_S, rows = np.array(self.config.slot_fields), max(len(labels_B), 1)
        saved_2F = np.zeros((2, len(self.config.field_names)))
        sightings_2F = np.zeros_like(saved_2F)
        sums_F, squares_F = np.zeros((2, saved_2F.shape[1]))
        losses_B = np.full(len(labels_B), np.nan)
        rows_F = np.full(saved_2F.shape[1], float(rows))
        for newcomers, field in np.ndindex(*saved_2F.shape):
            of_field_S = slot_fields_S == field
            concerned = np.flatnonzero(_coded(codes_BS[:, of_field_S], newcomers).any(1))
            if not len(concerned):
                continue
            measured = concerned[:: -(-len(concerned) // MEASURED_ROWS)]
            codes_MS, labels_M = codes_BS[measured], labels_B[measured]
            if len(unscored := measured[np.isnan(losses_B[measured])]):  # rows that no field before has measured
                losses_B[unscored] = row_losses(labels_B[unscored], self.score(codes_BS[unscored]))
            taken_MS = of_field_S & _coded(codes_MS, newcomers)
            without_M = row_losses(labels_M, self.score(np.where(taken_MS, DEFAULT, codes_MS)))
            added_M = (without_M - losses_B[measured]) * shares_B[measured]
            saved_2F[newcomers, field] = added_M.sum()
            sightings_2F[newcomers, field] = shares_B[measured] @ taken_MS.sum(1)
            stands_for = len(concerned) / len(measured)
            sums_F[field] += stands_for * added_M.sum()
            squares_F[field] += stands_for * np.square(added_M).sum()
            rows_F[field] = min(rows_F[field], rows / stands_for)
        mean_F = sums_F / rows
        error_F = np.sqrt(np.maximum(squares_F / rows - np.square(mean_F), 0.0) / rows_F)
        figures_F: Arrays = {"worth": mean_F, "worth_error": error_F, "worth_rows": np.rint(rows_F)}
        return self.standards.worth.learned(saved_2F, sightings_2F), figures_F

    def _places(self, codes_BS: NDArray[np.signedinteger]) -> Tensor:
        """Codes within fields, as indices among all T codewords; -1 for padding."""
        counts_F = self.standards.centroids.counts_F
        return torch.from_numpy(places(codes_BS, counts_F, self.config.slot_fields))


def _coded(codes_BS: NDArray[np.signedinteger], newcomers: int) -> NDArray[np.bool_]:
    """Which codes are the newcomers', or else those of clusters."""
    return codes_BS == NEWCOMER if newcomers else codes_BS >= CLUSTERS
