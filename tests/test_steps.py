"""The six steps of an hour: their order, what they hand each other, and that the same hour gives the same bytes."""

import json
import multiprocessing
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
from saec.schedule.pipeline import NOBODY
from saec.serving import Model
from saec.steps import KEPT_FILES, Steps
from saec.train.learner import Learner
from saec.workspace import Workspace

STEPS = Steps._fields
NEXT = 5
"""Of the hours of a site: the one to be done next."""


class Killed(BaseException):
    """Stands in for the death of the process: no handler of the pipeline catches it."""


def each_step(wrapped) -> Steps:
    """The six steps, each passed through `wrapped(name, step)`."""
    return Steps(**{name: wrapped(name, step) for name, step in Steps()._asdict().items()})


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
    return [(row.hour, row.state, row.reason, row.version, row.checkpoint, row.parent, row.input_digest)
            for row in site.rows()]


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


def test_same_hours_twice_give_the_same_bytes(fresh, undisturbed):
    """Two empty workspaces, same data and settings: same version ids, and equal bytes in every file that is kept."""
    fresh.advance(fresh.hours[3])
    assert outcomes(fresh) == outcomes(undisturbed)[:4]
    assert len(fresh.store.versions()) >= 2
    assert left(fresh).items() <= left(undisturbed).items()


def test_steps_need_nothing_in_memory(site, undisturbed):
    """With the memory emptied before each step, as in processes of their own, every byte stays the same."""
    site.advance(site.hours[-1], steps=each_step(in_own_process))
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


def test_another_process_gives_the_same_bytes(site, undisturbed, root):
    """A process of its own, with another hash seed, comes to the same bytes."""
    settings = site.folder / "settings.json"
    settings.write_text(site.config().model_dump_json())
    script = (
        "import sys\nfrom saec.config import load_config\n"
        "from saec.hours import Hour\nfrom saec.schedule.pipeline import Pipeline\n"
        "pipeline = Pipeline(load_config(sys.argv[1]))\n"
        "with pipeline.leased() as lease: pipeline.run(lease, pipeline.due(Hour.parse(sys.argv[2]) + 1))\n"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run([sys.executable, "-c", script, str(settings), str(site.hours[-1])], check=True, cwd=root,
                   env={**os.environ, "PYTHONHASHSEED": seed}, timeout=60)
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


@pytest.mark.slow
def test_each_step_runs_in_a_process_of_its_own(site, undisturbed):
    """What a step needs is in its arguments and in files: six processes an hour come to the same bytes."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        remote = each_step(lambda _, step: lambda *args: pool.submit(step, *args).result())
        site.advance(site.hours[-1], steps=remote)
    assert outcomes(site) == outcomes(undisturbed)
    assert left(site) == left(undisturbed)


@pytest.mark.parametrize("killed_after", [None, *STEPS])
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
        site.advance(site.hours[NEXT], steps=each_step(deadly))
    assert site.rows()[-1].state == "RUNNING"
    if killed_after != "publish":
        assert site.serving() == serving
    site.advance(site.hours[NEXT])
    assert_as_undisturbed(site, undisturbed)
    assert site.rows()[-1].attempts == 2
    assert [release.version for release in site.store.releases()] == site.store.versions(), "none is released twice"


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
        assert {"ingest.json", steps.SCORES} <= names <= set(KEPT_FILES)


@pytest.mark.parametrize(("after", "file", "damage"), [
    ("ingest", "rows.safetensors", "altered"), ("train", "rows.safetensors", "gone"),
    ("train", "untouched.safetensors", "altered"), ("cluster", "codes.safetensors", "altered"),
    ("gate", "candidate/network.safetensors", "altered"), ("gate", "candidate/index.safetensors", "gone")])
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
    (row,) = site.advance(site.hours[NEXT], steps=each_step(spoiling))
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
        self.cuts: list[int] = []
        """Where in the stream each hour's gate rows begin."""
        self.scored: list[tuple[int, int]] = []
        """Rows that were scored at once, and the labels that the original had learnt by then."""
        self.judged: list[tuple[bytes, int, int]] = []
        """Labels that were judged on, and how many the original and the challenger had learnt by then."""
        fit, score, score_keys, judge = Learner.fit, Learner.score, Model.score_keys, steps.judge

        def spied_fit(learner, working, places_BS, labels_B, **options):
            model = "challenger" if options.get("dropped_to_S") is None else "original"
            self.learnt[model] += labels_B.tobytes()
            return fit(learner, working, places_BS, labels_B, **options)

        def spied_score(learner, vectors_UD, places_BS):
            self.scored.append((len(places_BS), len(self.learnt["original"])))
            return score(learner, vectors_UD, places_BS)

        def spied_score_keys(model, keys_BS):
            self.scored.append((len(keys_BS), len(self.learnt["original"])))
            return score_keys(model, keys_BS)

        def spied_judge(labels_B, *args):
            self.judged.append((labels_B.tobytes(), *map(len, self.learnt.values())))
            return judge(labels_B, *args)

        monkeypatch.setattr(Learner, "fit", spied_fit)
        monkeypatch.setattr(Learner, "score", spied_score)
        monkeypatch.setattr(Model, "score_keys", spied_score_keys)
        monkeypatch.setattr(steps, "judge", spied_judge)

    def steps(self) -> Steps:
        """The steps, the first of which makes the hour's labels known."""
        def ingest(plan):
            record = steps.ingest(plan)
            rows = record.load_rows(Workspace(plan.config).folder(plan.hour))
            self.cuts.append(len(self.stream) + rows.cut(plan.config.training.gate_share))
            self.stream += rows.labels_B.tobytes()
            return record
        return Steps(ingest=ingest)


@pytest.mark.fault(65)
def test_rows_are_learnt_once_and_judged_before(fresh, monkeypatch):
    """Each model learns each row once, in order of time, the gate rows only after they were judged on.

    The first challenger is the original's own network, so it has learnt that hour's train rows with it.
    """
    spy = Spy(monkeypatch)
    fresh.advance(fresh.hours[3], steps=spy.steps())
    first, *_, last = spy.cuts
    assert spy.learnt == {"original": spy.stream[:last], "challenger": spy.stream[first:last]}
    for (labels, original, challenger), cut in zip(spy.judged, spy.cuts, strict=True):
        assert (original, challenger) == (cut, cut - first)
        assert spy.stream[cut:].startswith(labels)


def test_models_are_scored_before_anything_trains_on_the_hour(site, monkeypatch):
    """Progressive validation: original and champion score all rows of the hour before the first of them is learnt."""
    with site.pipeline() as pipeline:
        pending = pipeline.workspace.original(pipeline.ledger.rows()[-1].checkpoint).pending
    spy = Spy(monkeypatch)
    site.advance(site.hours[NEXT], steps=spy.steps())
    left_over = pending.rows.labels_B[pending.cut :].tobytes()
    assert spy.learnt["original"] == left_over + spy.stream[: spy.cuts[0]]
    assert [learnt for rows, learnt in spy.scored if rows == len(spy.stream)] == [len(left_over)] * 2


def flipped(site, hour, first: int, last: int | None = None) -> None:
    """Turn over the labels of some rows of an hour; simulated rows come in the order of their time."""
    table = pq.read_table(site.file(hour), partitioning=None)
    clicked_B = table["clicked"].to_numpy().copy()
    clicked_B[first:last] ^= 1
    write_hour(site.folder / "data", hour, table.set_column(
        table.column_names.index("clicked"), "clicked", pa.array(clicked_B)))


def handed_on(site, hour, config=None) -> tuple[dict[str, str], np.ndarray, int]:
    """Of an hour done anew: digests of the files that were judged, the lagged codes, and the cut."""
    found = []

    def publish(plan, ingested, trained, retrained, judged):
        found.append(({file.name: file.sha256 for file in judged.files}, *found.pop(), trained.cut))
        return steps.publish(plan, ingested, trained, retrained, judged)

    def cluster(plan, *args):
        clustered = steps.cluster(plan, *args)
        found.append((Workspace(plan.config).read(plan.hour, clustered.codes)["lagged_BS"],))
        return clustered

    site.advance(hour, config=config, steps=Steps(cluster=cluster, publish=publish))
    return found.pop()


@pytest.mark.fault(65)
def test_nothing_that_is_judged_has_seen_the_gate_rows_labels(site, tmp_path):
    """With all labels after the cut turned over, the challenger's files are the same byte for byte."""
    hour, other = site.hours[NEXT], site.copy(tmp_path / "other")
    files, _, cut = handed_on(site, hour)
    flipped(other, hour, cut)
    assert handed_on(other, hour)[0] == files


def auto_of(site, hour) -> dict[str, np.ndarray]:
    """What the challenger of an hour remembers of the ratios tried."""
    with site.pipeline() as pipeline:
        names = {path.name for path in (site.folder / "workspace" / "checkpoints").glob(f"{hour.compact}-challenger-*")}
        (name,) = {name.removesuffix(".safetensors") for name in names}
        arrays = pipeline.workspace.checkpoints.load(name)
    return {name.removeprefix("auto."): array for name, array in arrays.items() if name.startswith("auto.")}


def test_the_gate_rows_labels_turn_the_dial_for_the_next_hour_only(site, tmp_path):
    """With `ratio: auto`, the hour's files know nothing of its gate rows; what is remembered for the next hour does."""
    hour, other = site.hours[NEXT], site.copy(tmp_path / "other")
    config, other_config = (one.config(compression={"ratio": "auto"}) for one in (site, other))
    files, lagged_BS, cut = handed_on(site, hour, config)
    flipped(other, hour, cut)
    other_files, other_BS, _ = handed_on(other, hour, other_config)
    assert other_files == files
    np.testing.assert_array_equal(other_BS, lagged_BS)
    seen, other_seen = auto_of(site, hour), auto_of(other, hour)
    step = int(seen["step"])
    rows = site.rows()[-1].record["rows_gate"]
    assert seen["rows_L"][: step + 4].tolist() == other_seen["rows_L"][: step + 4].tolist() == [rows] * 3 + [0]
    assert seen["added_L"][step] != other_seen["added_L"][step]


def test_no_code_has_seen_the_label_of_a_row_it_is_retrained_on(site, tmp_path):
    """With the labels of the last stretch turned over, all codes to retrain through are the same; else they are not."""
    hour, other, third = site.hours[NEXT], site.copy(tmp_path / "other"), site.copy(tmp_path / "third")
    files, lagged_BS, cut = handed_on(site, hour)
    start = cut - cut // site.config().training.stretches
    flipped(other, hour, start, cut)
    other_files, other_BS, _ = handed_on(other, hour)
    np.testing.assert_array_equal(other_BS, lagged_BS)
    assert other_files != files
    flipped(third, hour, 0, start)
    assert (handed_on(third, hour)[1][start:] != lagged_BS[start:]).any()


def test_champion_is_scored_as_it_is_served(site):
    """The champion's progressive figures are those of the live version's files on the hour as it comes."""
    champion, figures = Model.open(site.store.open(site.live)), []

    def publish(plan, ingested, *args):
        rows = ingested.load_rows(Workspace(plan.config).folder(plan.hour))
        figures.append(steps.auc(rows.labels_B, champion.score_keys(rows.keys_BS)))
        return steps.publish(plan, ingested, *args)

    (row,) = site.advance(site.hours[NEXT], steps=Steps(publish=publish))
    assert [row.record["progressive_auc_champion"]] == figures


def test_record_is_plain_json(undisturbed):
    """Everything the report shows of an hour survives JSON."""
    for row in undisturbed.rows():
        assert json.loads(json.dumps(row.record, allow_nan=False)) == row.record
