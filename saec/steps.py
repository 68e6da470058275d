"""Does an hour in six steps; each is a plain function from names and digests to a small record.

    ingest   checks and encodes the partition's rows into a file
    train    scores all rows with the models that served the hour; then the original learns all of them
    cluster  makes codebooks and chooses the head: at the cut, for the gate, and at the hour's end, to be served
    retrain  the challenger learns the hour; writes the candidate's files at the cut, the version's at the end
    gate     judges the candidate, read back from its files, and checks that the version is fit for release
    publish  commits the version and, if the candidate passed, releases it

Each step can run in its own process: everything it needs is in its arguments and in files. Read `do_hour` to see what
an hour does; the steps follow in its order.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from saec import device
from saec.compression.artifact import compression_figures, write_artifact, write_recorded
from saec.compression.auto import Auto
from saec.compression.challenger import Challenger
from saec.compression.codes import Coding, code
from saec.compression.dial import Allowance
from saec.compression.ensemble import Share
from saec.compression.moments import HourPast
from saec.data.checks import check_click_rate
from saec.data.hashing import Keys
from saec.data.ingest import OTHER_KEYS_FILE, IngestRecord, ingest_hour
from saec.data.late import IDENTITIES_FILE
from saec.durable import storage_errors
from saec.errors import StoreError
from saec.failpoints import reached
from saec.gate.evidence import Evidence
from saec.gate.metrics import calibration_ratio, normalised_entropy, weights_of
from saec.gate.release import release_problem
from saec.gate.verdict import judge
from saec.gate.watch import BEFORE
from saec.hour_figures import logged_hour, metrics_of, score_arrays, served_hour, sliced_hour
from saec.hour_record import manifest_of, record_of
from saec.met import Met, challenger_of, other_schemas
from saec.records import Clustered, HourPlan, HourResult, Judged, Published, Retrained, Trained
from saec.serving import Model
from saec.space import require_space
from saec.train.identity import called
from saec.train.original import AtCut
from saec.train.tensors import Arrays, section
from saec.workspace import FileDigest, Workspace

log = logging.getLogger(__name__)
CANDIDATE, VERSION = "candidate", "version"
"""Folders with the files of the cut and of the hour's end until the verdict."""
SERVED_SCORES, GATE_SCORES = "served.safetensors", "gate.safetensors"
KEPT_FILES = ("ingest.json", "quarantine.parquet", IDENTITIES_FILE, SERVED_SCORES, GATE_SCORES)
"""The files of an hour's folder that stay once it is done."""

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """Runs a step: plainly, with retries, timed, or as a Prefect task run."""

    def __call__(self, step: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the step with its arguments."""


def do_hour(plan: HourPlan, run: Run) -> HourResult:
    """Do all steps of an hour.

    Args:
        plan: what the hour starts from.
        run: runs each step.
    """
    ingested = run(ingest, plan)
    trained = run(train, plan, ingested)
    clustered = run(cluster, plan, ingested, trained)
    retrained = run(retrain, plan, ingested, trained, clustered)
    judged = run(gate, plan, ingested, trained, retrained)
    published = run(publish, plan, ingested, trained, retrained, judged)
    reached("hour.published")
    plan.workspace.clear(plan.hour, keep=KEPT_FILES)
    return HourResult(
        published, ingested.input_sha256, trained.original, record_of(ingested, trained, clustered, retrained, judged)
    )


def ingest(plan: HourPlan) -> IngestRecord:
    """Check and encode the hour's rows."""
    workspace = plan.workspace
    others = other_schemas(plan, workspace)
    known = {late: workspace.identities(late, learners) for late, learners in plan.late.items()}
    ingested = ingest_hour(plan.config, plan.hour, workspace.folder(plan.hour), known, others)
    reached("ingest.written")
    limit = plan.config.data.max_click_shift
    rows, clicks = ingested.stand_for or (ingested.rows, ingested.clicks)
    check_click_rate(plan.hour, clicks * ingested.rows / rows, ingested.rows, plan.click_rates, limit)
    return ingested


def train(plan: HourPlan, ingested: IngestRecord) -> Trained:
    """Score the hour with the models that served it, then let the original learn all of it."""
    workspace = _settled(plan)
    require_space(workspace, plan.hour, plan.champion)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    cut = rows.cut(plan.config.training.gate_share)
    challenger = challenger_of(plan, workspace)
    original = workspace.take_original(plan.original, challenger.sources_F)
    learnt_from = called(plan.original, original.identity) if plan.original else None
    prepared = original.prepare(plan.hour, rows)
    seen = prepared.features
    new_features = int((original.vocabulary.find(seen.keys_U, seen.fields_U) < 0).sum())
    met = Met(plan, workspace, rows, _other_keys(plan, workspace, ingested))
    scores = {"original": original.score(prepared), **met.scores(challenger)}
    watch = met.watch(scores)
    at_cut = original.learn(plan.hour, rows, prepared, cut)
    reached("train.learnt")
    return Trained(
        original=workspace.save_original(plan.hour, original, plan.original),
        learnt_from=learnt_from,
        at_cut=workspace.write(plan.hour, "at_cut.safetensors", at_cut.arrays()),
        scores=workspace.write(plan.hour, SERVED_SCORES, score_arrays(rows.labels_B, scores)),
        cut=cut,
        rows_gate=len(rows) - cut,
        features=original.vocabulary.admitted,
        new_features=new_features,
        served=served_hour(rows, scores),
        slices=sliced_hour(plan, ingested, rows, scores),
        watch=watch.as_dict() if watch else None,
        logged=logged_hour(plan, ingested, rows),
    )


def cluster(plan: HourPlan, ingested: IngestRecord, trained: Trained) -> Clustered:
    """Choose and cluster the head: at the cut from what was known before the hour, at its end from everything."""
    workspace = _settled(plan)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    at_cut = AtCut.from_arrays(workspace.read(plan.hour, trained.at_cut))
    scores = workspace.read(plan.hour, trained.scores)
    challenger = challenger_of(plan, workspace)
    past = HourPast(workspace.original(trained.original), plan.hour, rows.keys_BS, trained.cut, at_cut)
    codes_BS = challenger.codes(rows.keys_BS).astype(np.int16)

    candidate = _coded(challenger, past, end=False)
    measured_F = challenger.measure(past, codes_BS, rows.labels_B, scores["original_B"], rows.weights_B)
    version = _coded(challenger, past, end=True)
    parts = {CANDIDATE: candidate.arrays(), VERSION: version.arrays(), "auto": challenger.auto.arrays()}
    parts["share"] = challenger.share.arrays()
    arrays = {f"{part}.{name}": array for part, named in parts.items() for name, array in named.items()}
    return Clustered(
        codes=workspace.write(plan.hour, "codes.safetensors", {"codes_BS": codes_BS, **arrays}),
        head=len(version.head_keys_H),
        churn=version.churn,
        by_field={
            name: {figure: float(values_F[field]) for figure, values_F in (version.figures_F | measured_F).items()}
            for field, name in enumerate(plan.config.field_names)
        },
    )


def retrain(plan: HourPlan, ingested: IngestRecord, trained: Trained, clustered: Clustered) -> Retrained:
    """Let the challenger learn the hour through lagged codes; write its files at the cut and at the end."""
    workspace = _settled(plan)
    rows = ingested.load_rows(workspace.folder(plan.hour))
    labels_B, weights_B = rows.labels_B, rows.weights_B
    arrays, cut = workspace.read(plan.hour, clustered.codes), trained.cut
    candidate, version = (Coding.from_arrays(section(arrays, f"{part}.")) for part in (CANDIDATE, VERSION))
    challenger = challenger_of(plan, workspace, to_train=True)
    challenger.learn(arrays["codes_BS"][:cut], labels_B[:cut], weights_of(weights_B, slice(cut)))
    _write(plan, workspace, CANDIDATE, challenger.moved_on(candidate), candidate)
    gate_codes_GS = arrays["codes_BS"][cut:]
    before_G = challenger.score(gate_codes_GS)
    challenger.learn(gate_codes_GS, labels_B[cut:], weights_of(weights_B, slice(cut, None)))
    learnt: Arrays = {"before_G": before_G, "after_G": challenger.score(gate_codes_GS)}
    challenger = challenger.moved_on(version)
    challenger.auto = Auto.from_arrays(section(arrays, "auto."))
    challenger.share = Share.from_arrays(section(arrays, "share."))
    reached("retrain.learnt")
    sizes = _write(plan, workspace, VERSION, challenger, version)
    made = sorted((workspace.folder(plan.hour) / VERSION).iterdir())
    challenger.files, challenger.sources_F = {path.name: path.read_bytes() for path in made}, None
    reached("retrain.version-written")
    return Retrained(
        challenger=workspace.save_challenger(plan.hour, challenger),
        learnt=workspace.write(plan.hour, "learnt.safetensors", learnt),
        sizes=sizes,
        figures=compression_figures(
            rows=trained.features + len(plan.config.field_names),
            width=plan.config.model.width,
            network=sum(parameter.numel() for parameter in challenger.learner.network.parameters()),
            codewords=challenger.models * version.standards.centroids.codewords,
            head=clustered.head,
            slots=len(plan.config.slot_fields),
            sizes=sizes,
        )
        | {"share_of_original": challenger.quantised_share},
    )


def gate(plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained) -> Judged:
    """Judge the candidate, read back from its files, on rows that no model has been trained on.

    Then check whether the version of the hour's end is fit to be released instead.
    """
    workspace = _settled(plan)
    folder = workspace.folder(plan.hour)
    rows = ingested.load_rows(folder)
    labels_G, keys_GS = rows.labels_B[trained.cut :], rows.keys_BS[trained.cut :]
    weights_G = weights_of(rows.weights_B, slice(trained.cut, None))
    served = workspace.read(plan.hour, trained.scores)
    at_cut = AtCut.from_arrays(workspace.read(plan.hour, trained.at_cut))
    recorded_R, _ = (write_recorded(folder / made, keys_GS) for made in (CANDIDATE, VERSION))
    candidate_G, version_G = (Model.read(folder / made).score_keys(keys_GS) for made in (CANDIDATE, VERSION))
    scores = {"original": at_cut.scores_G, "compressed": candidate_G}
    if "live_B" in served:
        scores["champion"] = served["live_B"][trained.cut :]
    verdict = judge(
        rows.labels_B,
        served.get("version_B"),
        served["original_B"],
        served.get("live_B"),
        candidate_G,
        trained.cut,
        Evidence.from_dict(plan.evidence) if plan.evidence else None,
        plan.config.gate,
        rows.weights_B,
    )
    learnt = workspace.read(plan.hour, retrained.learnt)
    problem = release_problem(labels_G, version_G, learnt["before_G"], learnt["after_G"], plan.config.gate, weights_G)
    if problem:
        log.warning("hour %s: the judged candidate stands in for the version of the hour's end: %s", plan.hour, problem)
    reached("gate.judged")
    metrics = metrics_of(labels_G, scores, weights_G)
    metrics["normalised_entropy_compressed"] = normalised_entropy(labels_G, candidate_G, weights_G)
    metrics["calibration_compressed"] = calibration_ratio(labels_G, candidate_G, weights_G)
    workspace.write(plan.hour, GATE_SCORES, score_arrays(labels_G, scores))
    candidate, version = workspace.describe(plan.hour, CANDIDATE), workspace.describe(plan.hour, VERSION)
    return Judged(
        verdict,
        metrics,
        candidate,
        candidate if problem else version,
        problem,
        tuple((candidate_G if problem else version_G)[recorded_R].tolist()),
    )


def publish(
    plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained, judged: Judged
) -> Published:
    """Commit and release the version if its candidate passed; otherwise the live one stays, or is rolled back."""
    published = _released(plan, ingested, trained, retrained, judged)
    return published if published.outcome == "PUBLISHED" else _given_way(plan, trained.watch, published)


def _given_way(plan: HourPlan, watch: dict[str, Any] | None, published: Published) -> Published:
    """Roll back to the version before the live one, if settings allow it and the live one is shown to be worse."""
    wanted = plan.config.gate.rollback and plan.promote
    if not (wanted and plan.before_live and watch and BEFORE in watch["worse_than"]):
        return published
    plan.workspace.store().rollback(plan.before_live, actor=plan.actor, reason=watch["text"], fence=plan.fence)
    reached("publish.rolled-back")
    message = f"{published.message} Rolled back to {plan.before_live}, and held: {watch['text']}."
    return dataclasses.replace(published, message=message)


def _released(
    plan: HourPlan, ingested: IngestRecord, trained: Trained, retrained: Retrained, judged: Judged
) -> Published:
    """Commit and release what passed."""
    verdict = judged.verdict
    if not verdict.accepted:
        return Published("HELD", verdict.reason, verdict.text, None)
    workspace = plan.workspace
    store = workspace.store()
    with store.stage() as staged:
        for file in judged.release:
            path = staged / file.name.rpartition("/")[2]
            with storage_errors(f"write {path}"):
                path.write_bytes(workspace.verified(plan.hour, file))
            reached("publish.file-staged")
        version = store.commit(staged, plan.hour, manifest_of(plan, ingested, trained, retrained, judged))
    if not plan.promote:
        why = "is decided on when the backfill is swapped in" if plan.aside else "was not asked for"
        return Published("HELD", "not-promoted", f"The version passed and is kept; its release {why}.", version)
    try:
        store.publish(version, actor=plan.actor, reason=f"{verdict.status}: {verdict.text}", fence=plan.fence)
    except StoreError as error:
        if error.reason not in ("held", "superseded"):
            raise
        return Published("HELD", error.reason, str(error), version)
    return Published("PUBLISHED", None, verdict.text, version)


def _settled(plan: HourPlan) -> Workspace:
    """The workspace, with the numeric libraries and the device set as configured.

    Each step does this: torch's thread count is per thread, and a flow may run each step in its own thread.
    """
    torch.set_num_threads(plan.config.threads)
    _libraries(len(sys.modules)).limit(limits=plan.config.threads, user_api="blas")
    device.deterministic()
    device.use(plan.config.device)
    return plan.workspace


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001 - what was found holds until more are imported
    """The numeric libraries of the process, cached because finding them takes milliseconds."""
    return ThreadpoolController()


def _other_keys(plan: HourPlan, workspace: Workspace, ingested: IngestRecord) -> dict[str, Keys]:
    """The hour's keys by the schemas of other models; none if all have the schema of the settings."""
    digest = ingested.other_keys_sha256
    return workspace.read(plan.hour, FileDigest(OTHER_KEYS_FILE, digest)) if digest else {}


def _coded(challenger: Challenger, past: HourPast, *, end: bool) -> Coding:
    """The codes of a moment, within the bytes that the dial allows for the new version."""
    moment = past.moment(end=end)
    allowance, *trials = (
        Allowance.of(challenger.config, moment.rows, ratio, models=challenger.share.models)
        for ratio in (challenger.ratio, *challenger.trials)
    )
    return code(moment, challenger.standards, challenger.codes, allowance, trials, challenger.quantised)


def _write(plan: HourPlan, workspace: Workspace, made: str, challenger: Challenger, coding: Coding) -> dict[str, int]:
    """Write the files of the candidate or of the version into their folder of the hour; returns their sizes."""
    folder = workspace.folder(plan.hour) / made
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return write_artifact(folder, challenger, coding.head_keys_H, coding.head_codes_H)
