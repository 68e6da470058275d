"""The six steps of an hour: their order, what they hand each other, and that the same hour gives the same bytes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec import steps
from saec.data.hourly_files import write_hour
from saec.gate.metrics import auc
from saec.schedule.pipeline import NOBODY
from saec.serving import Model
from saec.steps import KEPT_FILES, Run
from saec.train.learner import Learner
from saec.workspace import Workspace
from tests.conftest import STEPS, clean_forks, instead, wrapped

NEXT = 5
"""Of the hours of a site: the one to be done next."""


class Killed(BaseException):
    """Stands in for the death of the process: no handler of the pipeline catches it."""


def in_own_process(_, step):
    """The step as a fresh process would do it: nothing is in memory but its arguments."""

    def run(*args):
        Workspace._resident = None
        return step(*args)

    return run


def left(site) -> dict[str, str]:
    """sha256 of all that hours leave for later: versions, training state, what stays of each hour's folder."""
    folders = ("store/versions", "checkpoints", "hours")
    return {f"{below}/{name}": sha for below in folders for name, sha in site.digests(f"workspace/{below}").items()}


def outcomes(site) -> list[tuple]:
    """What the ledger says of each hour that must not depend on how often or where it was run."""
    return [
        (row.hour, row.state, row.reason, row.version, row.checkpoint, row.parent, row.input_digest)
        for row in site.rows()
    ]


def assert_as_undisturbed(site, undisturbed) -> None:
    """The hours that are done, and all they left, are those of a run without faults, which did one hour more."""
    assert outcomes(site) == outcomes(undisturbed)[:-1]
    kept = left(site)
    assert kept == {name: sha for name, sha in left(undisturbed).items() if site.hours[-1].compact not in name}


def test_six_steps_in_order(site):
    """Every hour goes through the six steps in order; each is announced, timed, and noted in the ledger."""
    told = []

    class Ear(type(NOBODY)):
        def on_step(self, hour, step):
            told.append((hour, step))

    rows = site.advance(site.hours[-1], listener=Ear())
    assert told == [(hour, step) for hour in site.hours[NEXT:] for step in STEPS]
    for row in rows:
        assert tuple(row.record["seconds"]) == STEPS
        assert row.stage == STEPS[-1]


@pytest.mark.slow  # hours from nothing, twice; tests/test_golden.py holds the bytes
def test_same_hours_twice_give_the_same_bytes(fresh, undisturbed):
    """Two empty workspaces, same data and settings: same version ids, and equal bytes in every file that is kept."""
    fresh.advance(fresh.hours[3])
    assert outcomes(fresh) == outcomes(undisturbed)[:4]
    assert len(fresh.store.versions()) >= 2
    assert left(fresh).items() <= left(undisturbed).items()


def test_steps_need_nothing_in_memory(site, undisturbed):
    """With the memory emptied before each step, as in processes of their own, every byte stays the same."""
    site.advance(site.hours[-1], run_step=wrapped(in_own_process))
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


@pytest.mark.slow  # two processes that import torch
def test_another_process_gives_the_same_bytes(site, undisturbed, root):
    """A process of its own, with another hash seed, comes to the same bytes; it loads no library it can do without."""
    settings = site.folder / "settings.json"
    settings.write_text(site.config().model_dump_json())
    script = (
        "import sys\nfrom saec.settings_file import load_config\n"
        "from saec.hours import Hour\nfrom saec.schedule.pipeline import Pipeline\n"
        "pipeline = Pipeline(load_config(sys.argv[1]))\n"
        "with pipeline.leased() as lease: pipeline.run(lease, pipeline.due(Hour.parse(sys.argv[2]) + 1))\n"
        "needless = {'sklearn', 'torch._dynamo', 'torch._inductor'} & {*sys.modules}\n"
        "assert not needless, f'{needless} take seconds of every start'\n"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run(
        [sys.executable, "-c", script, str(settings), str(site.hours[-1])],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=60,
    )
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


@pytest.mark.slow
def test_each_step_runs_in_a_process_of_its_own(site, undisturbed):
    """What a step needs is in its arguments and in files: six processes an hour come to the same bytes."""
    with ProcessPoolExecutor(1, clean_forks(), max_tasks_per_child=1) as pool:
        remote = wrapped(lambda _, step: lambda *args: pool.submit(step, *args).result())
        site.advance(site.hours[-1], run_step=remote)
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


@pytest.mark.parametrize(
    "killed_after",
    [
        None,
        "train",
        "publish",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ingest", "cluster", "retrain", "gate")),
    ],
)
def test_killed_between_steps_converges(site, undisturbed, killed_after):
    """A run that dies before the first step, or right after any, is taken up by the next: same version, same state."""

    def deadly(name, step):
        def run(*args):
            if killed_after is None:
                raise Killed
            result = step(*args)
            if name == killed_after:
                raise Killed
            return result

        return run

    serving = site.serving()
    with pytest.raises(Killed):
        site.advance(site.hours[NEXT], run_step=wrapped(deadly))
    assert site.rows()[-1].state == "RUNNING"
    if killed_after != "publish":
        assert site.serving() == serving
    site.advance(site.hours[NEXT])
    assert_as_undisturbed(site, undisturbed)
    assert site.rows()[-1].attempts == 2
    assert [release.version for release in site.store.releases()] == site.store.versions(), "none is released twice"


@pytest.mark.slow  # two hours; killed between steps is the same
def test_killed_before_the_ledger_hears_of_it_converges(site, undisturbed, monkeypatch):
    """A run that dies with everything done but the ledger's last line is done again to the same bytes."""
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        monkeypatch.setattr(pipeline.ledger, "finish", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pipeline.run(lease, pipeline.due(site.hours[NEXT] + 1))
    site.advance(site.hours[NEXT])
    assert_as_undisturbed(site, undisturbed)


def test_hour_folder_is_cleared(undisturbed):
    """Of a done hour's folder stays what the report and people want; rows, vectors, codes and candidate are gone."""
    folders = sorted((undisturbed.folder / "workspace" / "hours").iterdir())
    assert [folder.name for folder in folders] == [hour.compact for hour in undisturbed.hours]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert {"ingest.json", steps.SERVED_SCORES, steps.GATE_SCORES} <= names <= set(KEPT_FILES)


@pytest.mark.parametrize(
    ("after", "file", "damage"),
    [
        ("ingest", "rows.safetensors", "altered"),
        *(
            pytest.param(*spoilt, marks=pytest.mark.slow)
            for spoilt in (
                ("gate", "version/index.safetensors", "gone"),
                ("train", "rows.safetensors", "gone"),
                ("train", "at_cut.safetensors", "altered"),
                ("train", "served.safetensors", "gone"),
                ("cluster", "codes.safetensors", "altered"),
                ("gate", "version/network.safetensors", "altered"),
            )
        ),
    ],
)
def test_altered_file_between_steps_fails_the_hour(site, undisturbed, after, file, damage):
    """A file that is not what the step before wrote FAILs the hour and nothing goes live; the next run heals it."""

    def spoiling(name, step):
        def run(*args):
            result = step(*args)
            if name == after:
                path = args[0].config.workspace / "hours" / args[0].hour.compact / file
                data = bytearray(path.read_bytes())
                data[-1] ^= 1
                path.write_bytes(data) if damage == "altered" else path.unlink()
            return result

        return run

    serving = site.serving()
    (row,) = site.advance(site.hours[NEXT], run_step=wrapped(spoiling))
    assert (row.state, row.reason) == ("FAILED", "integrity"), row.message
    assert file.rpartition("/")[2] in row.message
    assert site.serving() == serving
    site.advance(site.hours[NEXT])
    assert_as_undisturbed(site, undisturbed)


@pytest.mark.parametrize("kind", ["original", "challenger"])
def test_altered_checkpoint_fails_the_hour(site, kind):
    """Training state that was altered on disk is not trained on: FAILED(integrity), naming the file."""
    newest = site.hours[NEXT - 1].compact
    (path,) = (site.folder / "workspace" / "checkpoints").glob(f"{newest}-{kind}-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    serving = site.serving()
    (row,) = site.advance(site.hours[NEXT])
    assert (row.state, row.reason) == ("FAILED", "integrity")
    assert path.name in row.message
    assert site.serving() == serving


class Spy:
    """Which labels each model has learnt, and how many of them when something was scored or judged."""

    def __init__(self, monkeypatch) -> None:
        self.learnt = {"original": b"", "challenger": b""}
        self.stream = b""
        """Labels of all hours seen, one after the other."""
        self.starts: list[int] = []
        """Where in the stream each hour begins."""
        self.cuts: list[int] = []
        """Where in the stream each hour's gate rows begin."""
        self.scored: list[tuple[int, int, int]] = []
        """Rows that were scored at once, and the labels that the original and the challenger had learnt by then."""
        self.written: list[int] = []
        """The labels that the challenger had learnt when files were written of it."""
        fit, score, score_keys, write = Learner.fit, Learner.score, Model.score_keys, steps.write_artifact

        def spied_fit(learner, working, places_BS, labels_B, **options):
            model = "challenger" if options.get("added_BS") is None else "original"
            self.learnt[model] += labels_B.tobytes()
            return fit(learner, working, places_BS, labels_B, **options)

        def spied_score(learner, vectors_UD, places_BS, *added):
            self.scored.append((len(places_BS), *map(len, self.learnt.values())))
            return score(learner, vectors_UD, places_BS, *added)

        def spied_score_keys(model, keys_BS):
            self.scored.append((len(keys_BS), *map(len, self.learnt.values())))
            return score_keys(model, keys_BS)

        def spied_write(*args):
            self.written.append(len(self.learnt["challenger"]))
            return write(*args)

        monkeypatch.setattr(Learner, "fit", spied_fit)
        monkeypatch.setattr(Learner, "score", spied_score)
        monkeypatch.setattr(Model, "score_keys", spied_score_keys)
        monkeypatch.setattr(steps, "write_artifact", spied_write)

    def run_step(self) -> Run:
        """The steps, the first of which makes the hour's labels known."""

        def ingest(plan):
            record = steps.ingest(plan)
            rows = record.load_rows(Workspace(plan.config).folder(plan.hour))
            self.starts.append(len(self.stream))
            self.cuts.append(len(self.stream) + rows.cut(plan.config.training.gate_share))
            self.stream += rows.labels_B.tobytes()
            return record

        return instead(ingest=ingest)


@pytest.mark.fault(65)
def test_rows_are_learnt_once_and_judged_before(fresh, monkeypatch):
    """Each model learns each row once, in order of time; what is judged was written when no gate row was learnt.

    What is published was written when all of them were.
    """
    spy = Spy(monkeypatch)
    fresh.advance(fresh.hours[3], run_step=spy.run_step())
    assert spy.learnt == {"original": spy.stream, "challenger": spy.stream}
    ends = [*spy.starts[1:], len(spy.stream)]
    assert spy.written == [place for pair in zip(spy.cuts, ends, strict=True) for place in pair]


def test_models_are_scored_before_anything_trains_on_the_hour(site, monkeypatch):
    """The original, and the version of the hour before, which is live, score all rows before the first is learnt."""
    spy = Spy(monkeypatch)
    site.advance(site.hours[NEXT], run_step=spy.run_step())
    assert spy.scored[:2] == [(len(spy.stream), 0, 0)] * 2
    (cut,) = spy.cuts
    assert (len(spy.stream) - cut, cut, 0) in spy.scored, "the gate rows by the original at the cut"


def relabelled(site, hour, change) -> None:
    """Change the labels of an hour in place; simulated rows come in the order of their time."""
    table = pq.read_table(site.file(hour), partitioning=None)
    clicked_B = table["clicked"].to_numpy().copy()
    change(clicked_B)
    write_hour(
        site.folder / "data",
        hour,
        table.set_column(table.column_names.index("clicked"), "clicked", pa.array(clicked_B)),
    )


def flipped(site, hour, first: int, last: int | None = None) -> None:
    """Turn over the labels of some rows of an hour."""
    relabelled(site, hour, lambda clicked_B: np.bitwise_xor(clicked_B[first:last], 1, out=clicked_B[first:last]))


def handed_on(site, hour, config=None) -> tuple[dict[str, str], np.ndarray, int]:
    """Of an hour done anew: digests of the files that were judged, the codes it was learnt through, and the cut."""
    found = []

    def publish(plan, ingested, trained, retrained, judged):
        found.append(({file.name: file.sha256 for file in judged.candidate}, *found.pop(), trained.cut))
        return steps.publish(plan, ingested, trained, retrained, judged)

    def cluster(plan, *args):
        clustered = steps.cluster(plan, *args)
        found.append((Workspace(plan.config).read(plan.hour, clustered.codes)["codes_BS"],))
        return clustered

    site.advance(hour, config=config, run_step=instead(cluster=cluster, publish=publish))
    return found.pop()


@pytest.mark.fault(65)
@pytest.mark.parametrize("ratio", [20.0, "auto"])
def test_nothing_that_is_judged_has_seen_the_gate_rows_labels(site, tmp_path, ratio):
    """With all labels after the cut turned over, the candidate's files are the same byte for byte."""
    hour, other = site.hours[NEXT], site.copy(tmp_path / "other")
    config, other_config = (one.config(compression={"ratio": ratio}) for one in (site, other))
    files, _, cut = handed_on(site, hour, config)
    flipped(other, hour, cut)
    assert handed_on(other, hour, other_config)[0] == files


def auto_of(site, hour) -> dict[str, np.ndarray]:
    """What the challenger of an hour remembers of the ratios tried."""
    with site.pipeline() as pipeline:
        names = {path.name for path in (site.folder / "workspace" / "checkpoints").glob(f"{hour.compact}-challenger-*")}
        (name,) = {name.removesuffix(".safetensors") for name in names}
        arrays = pipeline.workspace.checkpoints.load(name)
    return {name.removeprefix("auto."): array for name, array in arrays.items() if name.startswith("auto.")}


@pytest.mark.slow  # four hours; compression/test_challenger.py holds the dial
def test_the_dial_turns_by_the_whole_hour_that_was_served(site, tmp_path):
    """With `ratio: auto` all rows of an hour say what the ratio of the version before it cost, and of two larger."""
    hour, other = site.hours[NEXT], site.copy(tmp_path / "other")
    seen, rows = [], []
    for one, turned in ((site, False), (other, True)):
        config = one.config(compression={"ratio": "auto"})
        if turned:
            flipped(one, hour + 1, 0, 300)
        one.advance(hour + 1, config=config)
        seen.append(auto_of(one, hour + 1))
        rows.append([row.record["rows"] for row in one.rows()[-2:]])
    # The first hour with `auto` was met by a version made without: nothing was on trial then.
    (_, last), step = rows[0], 0
    assert seen[0]["rows_L"][: step + 4].tolist() == pytest.approx([last, last, last, 0])
    assert seen[0]["added_L"][step] != seen[1]["added_L"][step]


@pytest.mark.fault(65)
def test_no_code_has_seen_the_label_of_a_row_it_is_retrained_on(site, tmp_path):
    """With any labels of the hour turned over, all codes to retrain through are the same; those of the next are not."""
    hour, other = site.hours[NEXT], site.copy(tmp_path / "other")
    files, codes_BS, cut = handed_on(site, hour)
    flipped(other, hour, 0, cut)
    other_files, other_BS, _ = handed_on(other, hour)
    np.testing.assert_array_equal(other_BS, codes_BS)
    assert (codes_BS > 0).mean() > 0.2
    assert other_files != files
    assert (handed_on(other, hour + 1)[1] != handed_on(site, hour + 1)[1]).any()


def test_what_is_live_is_scored_as_it_is_served(site):
    """The served figures of what was live are those of its files on the hour as it comes."""
    live, figures = Model.open(site.store.open(site.live), engine="numpy"), []  # as the pipeline

    def publish(plan, ingested, *args):
        rows = ingested.load_rows(Workspace(plan.config).folder(plan.hour))
        figures.append(auc(rows.labels_B, live.score_keys(rows.keys_BS)))
        return steps.publish(plan, ingested, *args)

    (row,) = site.advance(site.hours[NEXT], run_step=instead(publish=publish))
    assert [row.record["auc_served"]] == [row.record["auc_version_served"]] == figures


def test_slices_are_parts_of_the_served_hour(site):
    """Rows of a column's slices add up to the hour's, late ones aside; no byte of what is left depends on them."""
    plain = site.copy(site.folder.parent / "plain")
    (wanted,) = plain.advance(plain.hours[NEXT])
    (row,) = site.advance(site.hours[NEXT], config=site.config(report={"slices": ["device", "site_domain"]}))
    assert row.version == wanted.version
    slices = row.record["slices"]
    assert list(slices) == ["device", "site_domain"]
    for values in slices.values():
        assert sum(pair["rows"] for pair in values.values()) == row.record["rows"]
        assert sum(pair["positives"] for pair in values.values()) == row.record["clicks"]
    assert len(slices["site_domain"]) <= 10
    live = sum(pair["line"]["loss"] for pair in slices["device"].values()) / row.record["rows"]
    assert live == pytest.approx(row.record["logloss_served"])
    assert row.record["fields"]["user_id"]["worth_rows"] > 0
    assert wanted.record["slices"] == {}


def test_a_version_that_was_not_released_is_scored_all_the_same(site):
    """Held hours make versions too: each is scored on the hour after, beside what was live."""
    site.store.hold(actor="a test", reason="to see two versions")
    held, after = site.advance(site.hours[NEXT + 1])
    assert (held.state, held.reason) == ("HELD", "held")
    assert after.record["auc_version_served"] != after.record["auc_served"]
    model = Model.open(site.store.open(held.version))
    rows = after.record["rows"]
    assert rows > 0
    assert model.version == held.version


def test_a_version_unfit_for_release_gives_way_to_the_judged_one(site, monkeypatch):
    """Where learning the gate rows went wrong, the bytes that were judged are published, and the record says why."""
    judged = {}

    def publish(plan, ingested, trained, retrained, found):
        judged.update({file.name.rpartition("/")[2]: file.sha256 for file in found.candidate})
        return steps.publish(plan, ingested, trained, retrained, found)

    monkeypatch.setattr(steps, "release_problem", lambda *_: "a planted problem")
    (row,) = site.advance(site.hours[NEXT], run_step=instead(publish=publish))
    assert (row.state, row.record["release_problem"]) == ("PUBLISHED", "a planted problem")
    manifest = Model.open(site.store.open(site.live)).manifest
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == judged == manifest["judged"]


def test_a_version_judged_without_a_click_is_published(site):
    """Gate rows of one label have no AUC: the manifest says null, and all who read manifests can read it."""
    relabelled(site, site.hours[NEXT], lambda clicked_B: clicked_B[-len(clicked_B) // 3 :].fill(0))
    (row,) = site.advance(site.hours[NEXT], config=site.config(data={"max_click_shift": 0}))
    assert (row.state, row.version) == ("PUBLISHED", site.live), row.message
    metrics = Model.open(site.store.open(row.version)).manifest["metrics"]
    assert metrics["auc_compressed"] is None
    assert metrics["logloss_compressed"] > 0


def test_what_is_published_has_learnt_the_gate_rows(site):
    """The published files are those of the hour's end, not the judged ones; both are named in the manifest."""
    (row,) = site.advance(site.hours[NEXT])
    manifest = Model.open(site.store.open(row.version)).manifest
    published = {name: file["sha256"] for name, file in manifest["files"].items()}
    assert row.record["release_problem"] == ""
    assert published["network.safetensors"] != manifest["judged"]["network.safetensors"]


def test_record_is_plain_json(undisturbed):
    """Everything the report shows of an hour survives JSON."""
    for row in undisturbed.rows():
        assert json.loads(json.dumps(row.record, allow_nan=False)) == row.record
