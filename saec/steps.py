"""The six steps of an hour as plain functions: names and digests in, a small record out.

    ingest   the partition's rows, checked and encoded, in a file
    train    the original: scored on the whole hour, then trained on the rows before the cut
    cluster  codebooks of every field, lagged codes to retrain through, fresh codes to serve with
    retrain  the challenger, and its files as they would be published
    gate     original, challenger (read back from its files) and champion on the rows after the cut
    publish  the version and, if the gate passed it, its release

Each step can run in a process of its own: what it needs is in its arguments and in files. `do_hour` is the recipe; the
Prefect flow runs the same one with each step wrapped in a task.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from saec.compress.artifact import compression_figures, write_artifact, write_recorded
from saec.compress.auto import Auto
from saec.compress.challenger import Challenger
from saec.compress.codes import HourCodes, code_hour
from saec.compress.dial import warmed
from saec.compress.places import DEFAULT
from saec.config import Config
from saec.data.checks import check_click_rate
from saec.data.ingest import ROW_IDS_FILE, IngestRecord, ingest_hour
from saec.data.late import IDENTITIES_FILE
from saec.data.rows import EncodedRows
from saec.errors import StoreError
from saec.failpoints import reached
from saec.gate.metrics import auc, calibration_ratio, logloss, normalised_entropy, row_losses
from saec.gate.served import served_figures
from saec.gate.verdict import Verdict, judge
from saec.hours import Hour
from saec.serving import Model
from saec.space import require_space
from saec.train.original import Untouched
from saec.train.tensors import Arrays
from saec.workspace import FileDigest, Workspace

CANDIDATE = "candidate"
"""Folder of an hour in which the challenger's files wait for the verdict."""
SCORES = "scores.safetensors"
KEPT_FILES = ("ingest.json", "quarantine.parquet", IDENTITIES_FILE, SCORES)
"""What stays of an hour's folder once it is done."""


@dataclass(frozen=True)
class HourPlan:
    """What an hour starts from; everything else follows from its rows."""

    config: Config
    hour: Hour
    original: str | None = None
    """Checkpoint of the original after the hour before; None starts afresh."""
    challenger: str | None = None
    """Checkpoint of the challenger after the hour before."""
    champion: str | None = None
    """Version to compare with: the live one, or in a backfill the last published before this hour."""
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
    """The original at the cut."""

    original: str
    untouched: FileDigest
    cut: int
    """First gate row; as many rows were trained on."""
    rows_gate: int
    features: int
    new_features: int
    progressive: dict[str, float]
    served: dict[str, Any]
    """What the request log says of the hour, see `saec.gate.served`; nothing without one."""


@dataclass(frozen=True)
class Clustered:
    """The hour's clusters and codes."""

    codes: FileDigest
    head: int
    churn: float
    by_field: dict[str, dict[str, float]]
    """How the clusters of each field live: head, clusters, used, largest_share, error, drift, rebuilt."""

    @property
    def utilisation(self) -> float:
        """Share of the clusters that some feature uses."""
        return self._total("used") / max(self._total("clusters"), 1.0)

    def _total(self, figure: str) -> float:
        return sum(figures[figure] for figures in self.by_field.values())


@dataclass(frozen=True)
class Retrained:
    """The challenger at the cut and its files."""

    challenger: str
    kept: bool
    """Whether the hour's retraining is kept; it is dropped where it did harm."""
    sizes: dict[str, int]
    figures: dict[str, float]


@dataclass(frozen=True)
class Judged:
    """The gate's verdict and the metrics of the three models on the gate rows."""

    verdict: Verdict
    metrics: dict[str, float]
    files: tuple[FileDigest, ...]
    """The candidate's files that were judged; only these bytes are published."""
    recorded: tuple[float, ...]
    """The scores of the rows that the candidate brings along."""


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


def ingest(plan: HourPlan) -> IngestRecord:
    """Check and encode the hour's rows."""
    known = {late: plan.workspace.identities(late, learners) for late, learners in plan.late.items()}
    ingested = ingest_hour(plan.config, plan.hour, plan.workspace.folder(plan.hour), known)
    reached("ingest.written")
    limit = plan.config.data.max_click_shift
    check_click_rate(plan.hour, ingested.clicks, ingested.rows, plan.click_rates, limit)
    return ingested


def train(plan: HourPlan, ingested: IngestRecord) -> Trained:
    """Score the hour as it comes, then train the original on the rows before the cut."""
    workspace = _settled(plan)
    require_space(workspace, plan.hour, plan.champion)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    cut = rows.cut(plan.config.training.gate_share)
    original = workspace.take_original(plan.original)
    original.absorb()
    prepared = original.prepare(rows)
    new_features = int((original.vocabulary.find(prepared.features.keys_U) < 0).sum())
    scores = {"original": original.score(prepared), **_champion_scores(plan, workspace, rows.keys_BS)}
    _, untouched = original.train(plan.hour, rows, prepared, cut)
    reached("train.learnt")
    return Trained(
        original=workspace.save_original(plan.hour, original, plan.original),
        untouched=workspace.write(plan.hour, "untouched.safetensors", vars(untouched)),
        cut=cut,
        rows_gate=len(rows) - cut,
        features=original.vocabulary.admitted,
        new_features=new_features,
        progressive=_metrics(rows.labels_B, scores),
        served=_served(plan, ingested, rows),
    )


def cluster(plan: HourPlan, ingested: IngestRecord, trained: Trained) -> Clustered:
    """Cluster the head of every field and code the hour's rows."""
    workspace = _settled(plan)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    untouched = Untouched(**workspace.read(plan.hour, trained.untouched))
    challenger = Challenger(plan.config) if plan.challenger is None else _challenger(plan, workspace)
    before, auto, dial = challenger.standards, challenger.auto, plan.config.compression
    if dial.ratio == "auto":
        ratio, trials = auto.ratio, auto.trials
    else:
        ratio, trials = warmed(dial, dial.ratio, before.hours), []
    codes = code_hour(
        workspace.original(trained.original), untouched, before, plan.hour, rows.keys_BS, trained.cut, ratio, trials
    )
    by_field = {
        name: {figure: float(values_F[field]) for figure, values_F in codes.figures_F.items()}
        for field, name in enumerate(plan.config.field_names)
    }
    return Clustered(
        codes=workspace.write(plan.hour, "codes.safetensors", codes.arrays()),
        head=len(codes.head_keys_H),
        churn=codes.churn,
        by_field=by_field,
    )


def retrain(plan: HourPlan, ingested: IngestRecord, trained: Trained, clustered: Clustered) -> Retrained:
    """Retrain the challenger through the lagged codes and write its files with the fresh ones."""
    workspace = _settled(plan)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    labels_B = rows.labels_B
    codes = HourCodes.from_arrays(workspace.read(plan.hour, clustered.codes))
    if plan.challenger is None:
        challenger = Challenger.start(workspace.original(trained.original))
        kept = challenger.retrain(codes, labels_B, learn=False)
    else:
        challenger = _challenger(plan, workspace)
        challenger.absorb()
        kept = challenger.retrain(codes, labels_B)
    if plan.config.compression.ratio == "auto":
        original = workspace.original(trained.original)
        scores_B = original.score(original.prepare(rows), trained.cut)
        challenger.auto = _weighed(challenger, codes, labels_B[trained.cut :], scores_B)
    candidate = workspace.folder(plan.hour) / CANDIDATE
    shutil.rmtree(candidate, ignore_errors=True)
    candidate.mkdir()
    reached("retrain.learnt")
    sizes = write_artifact(candidate, challenger, codes.head_keys_H, codes.head_codes_H)
    reached("retrain.candidate-written")
    return Retrained(
        challenger=workspace.checkpoints.save(plan.hour, "challenger", challenger.snapshot()),
        kept=kept,
        sizes=sizes,
        figures=compression_figures(
            rows=trained.features + len(plan.config.field_names),
            width=plan.config.model.width,
            network=sum(parameter.numel() for parameter in challenger.learner.network.parameters()),
            codewords=codes.standards.centroids.codewords,
            head=clustered.head,
            slots=len(plan.config.slot_fields),
            sizes=sizes,
        ),
    )


def _weighed(
    challenger: Challenger, codes: HourCodes, labels_B: NDArray[np.uint8], original_B: NDArray[np.float64]
) -> Auto:
    """What the gate rows say of the hour's ratio and of each trial, for the next hour's ratio."""
    scores_TB = [challenger.score(codes.fresh_BS)]
    for trial in range(len(challenger.auto.trials)):
        fewer_BS = np.where((codes.trials_BS <= trial) & (codes.fresh_BS >= 0), DEFAULT, codes.fresh_BS)
        scores_TB.append(challenger.score(fewer_BS.astype(np.int16)))
    if not 0 < labels_B.sum() < len(labels_B):
        return challenger.auto  # rows of one class have no AUC
    losses_B, auc_original = row_losses(labels_B, original_B), auc(labels_B, original_B)
    return challenger.auto.learned(
        [row_losses(labels_B, scores_B) - losses_B for scores_B in scores_TB],
        [auc(labels_B, scores_B) - auc_original for scores_B in scores_TB],
    )


def gate(plan: HourPlan, ingested: IngestRecord, trained: Trained) -> Judged:
    """Judge the challenger, read back from its files, on rows that no model has been trained on."""
    workspace = _settled(plan)
    folder = workspace.folder(plan.hour)
    rows = ingested.load_rows(folder)
    labels_B, keys_BS = rows.labels_B[trained.cut :], rows.keys_BS[trained.cut :]
    original = workspace.original(trained.original)
    recorded_R = write_recorded(folder / CANDIDATE, keys_BS)
    files = workspace.describe(plan.hour, CANDIDATE)
    scores = {
        "original": original.score(original.prepare(rows), trained.cut),
        "compressed": Model.read(folder / CANDIDATE).score_keys(keys_BS),
        **_champion_scores(plan, workspace, keys_BS),
    }
    verdict = judge(labels_B, scores["compressed"], scores["original"], scores.get("champion"), plan.config.gate)
    reached("gate.judged")
    metrics = _metrics(labels_B, scores)
    metrics["normalised_entropy_compressed"] = normalised_entropy(labels_B, scores["compressed"])
    metrics["calibration_compressed"] = calibration_ratio(labels_B, scores["compressed"])
    arrays: Arrays = {"labels_B": labels_B, **{f"{name}_B": scores_B for name, scores_B in scores.items()}}
    workspace.write(plan.hour, SCORES, arrays)
    return Judged(verdict, metrics, files, tuple(scores["compressed"][recorded_R].tolist()))


def publish(
    plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained, judged: Judged
) -> Published:
    """Commit the version that passed, and release it; a version that did not pass leaves the live one alone."""
    verdict = judged.verdict
    if not verdict.accepted:
        return Published("HELD", verdict.reason, verdict.text, None)
    workspace = plan.workspace
    store = workspace.store()
    with store.stage() as staged:
        for file in judged.files:
            (staged / file.name.removeprefix(f"{CANDIDATE}/")).write_bytes(workspace.verified(plan.hour, file))
            reached("publish.file-staged")
        version = store.commit(staged, plan.hour, _manifest(plan, ingested, trained, retrained, judged))
    if not plan.promote:
        return Published("HELD", "not-promoted", "The version passed and is kept, but is not to be released.", version)
    try:
        store.publish(version, actor=plan.actor, reason=f"{verdict.status}: {verdict.text}", fence=plan.fence)
    except StoreError as error:
        if error.reason not in ("held", "superseded"):
            raise
        return Published("HELD", error.reason, str(error), version)
    return Published("PUBLISHED", None, verdict.text, version)


class Steps(NamedTuple):
    """The six steps, as functions or as anything that is called like them (Prefect tasks)."""

    ingest: Callable[..., IngestRecord] = ingest
    train: Callable[..., Trained] = train
    cluster: Callable[..., Clustered] = cluster
    retrain: Callable[..., Retrained] = retrain
    gate: Callable[..., Judged] = gate
    publish: Callable[..., Published] = publish


def do_hour(plan: HourPlan, steps: Steps, on_step: Callable[[str], object] = str) -> HourResult:
    """The recipe: the six steps in order.

    Args:
        plan: what the hour starts from.
        steps: how each step is run.
        on_step: told the name of each step before it starts.
    """
    timed = _Timed(steps, on_step)
    ingested = timed.ingest(plan)
    trained = timed.train(plan, ingested)
    clustered = timed.cluster(plan, ingested, trained)
    retrained = timed.retrain(plan, ingested, trained, clustered)
    judged = timed.gate(plan, ingested, trained)
    published = timed.publish(plan, ingested, trained, retrained, judged)
    reached("hour.published")
    plan.workspace.clear(plan.hour, keep=KEPT_FILES)
    record = {
        **_ingest_figures(ingested),
        **_training_figures(trained),
        **judged.metrics,
        **retrained.figures,
        "sizes": {name.partition(".")[0]: size for name, size in retrained.sizes.items()},
        "verdict": judged.verdict.as_dict(),
        "code_churn": clustered.churn,
        "utilisation": clustered.utilisation,
        "fields": clustered.by_field,
        "retraining_kept": retrained.kept,
        "challenger": retrained.challenger,
        "seconds": timed.seconds,
    }
    return HourResult(published, ingested.input_sha256, trained.original, record)


class _Timed:
    """The steps, each announced and timed."""

    def __init__(self, steps: Steps, on_step: Callable[[str], object]) -> None:
        self._steps, self._on_step = steps, on_step
        self.seconds: dict[str, float] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        step = getattr(self._steps, name)

        def run(*args: object) -> object:
            self._on_step(name)
            reached(f"step.{name}")
            started = time.perf_counter()
            result = step(*args)
            self.seconds[name] = round(time.perf_counter() - started, 4)
            return result

        return run


def _settled(plan: HourPlan) -> Workspace:
    """The workspace, with the numeric libraries set as configured.

    Each step does this: torch's thread count is per thread, and a flow may run each step in a thread of its own.
    """
    torch.set_num_threads(plan.config.threads)
    threadpool_limits(plan.config.threads, user_api="blas")
    torch.use_deterministic_algorithms(mode=True)
    return plan.workspace


def _metrics(labels_B: NDArray[np.uint8], scores: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """AUC and log loss of each model, as `auc_MODEL` and `logloss_MODEL`."""
    return {
        f"{metric.__name__}_{model}": metric(labels_B, scores_B)
        for model, scores_B in scores.items()
        for metric in (auc, logloss)
    }


def _champion_scores(
    plan: HourPlan, workspace: Workspace, keys_BS: NDArray[np.uint64]
) -> dict[str, NDArray[np.float64]]:
    """The champion's scores under its name; nothing when there is no champion."""
    if plan.champion is None:
        return {}
    champion = Model.open(workspace.store().open(plan.champion), verify=False)  # the store has just done so
    return {"champion": champion.score_keys(keys_BS)}


def _served(plan: HourPlan, ingested: IngestRecord, rows: EncodedRows) -> dict[str, Any]:
    """What was served of the hour, by the request log; nothing without one."""
    folder, workspace = plan.config.serving.log, plan.workspace
    if folder is None or not ingested.row_ids_sha256:
        return {}
    ids_N = workspace.read(plan.hour, FileDigest(ROW_IDS_FILE, ingested.row_ids_sha256))["ids_B"]
    return served_figures(folder, plan.hour, plan.config.data, rows, ids_N, workspace.store().versions())


def _challenger(plan: HourPlan, workspace: Workspace) -> Challenger:
    assert plan.challenger is not None
    return Challenger.restore(plan.config, workspace.checkpoints.load(plan.challenger), f"checkpoint {plan.challenger}")


def _manifest(
    plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained, judged: Judged
) -> dict[str, Any]:
    """What a version says of itself: where it comes from and why it passed. No clock, so that it can be made again."""
    return {
        "config": plan.config.digest,
        "data": ingested.input_sha256,
        **({"late": ingested.late} if ingested.late else {}),
        "parents": {"original": plan.original, "challenger": plan.challenger, "champion": plan.champion},
        "rows": {"train": trained.cut, "gate": trained.rows_gate},
        "metrics": judged.metrics,
        "progressive": trained.progressive,
        "verdict": judged.verdict.as_dict(),
        "compression": retrained.figures,
        "recorded": {"scores": list(judged.recorded)},
    }


def _ingest_figures(ingested: IngestRecord) -> dict[str, Any]:
    return {
        "rows": ingested.rows,
        "clicks": ingested.clicks,
        "duplicates": ingested.duplicates,
        "late": ingested.late,
        "quarantined_rows": sum(ingested.quarantined.values()),
        "quarantined": ingested.quarantined,
    }


def _training_figures(trained: Trained) -> dict[str, Any]:
    return {
        "rows_train": trained.cut,
        "rows_gate": trained.rows_gate,
        "features": trained.features,
        "new_features": trained.new_features,
        **{f"progressive_{name}": value for name, value in trained.progressive.items()},
        **trained.served,
    }
