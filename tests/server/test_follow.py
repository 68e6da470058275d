"""The server answers from what the store has live, and from the last good version when it cannot."""

import gc
import shutil
import threading
import weakref

import pytest

from saec.server import follow
from saec.server.last_good import LastGood
from saec.store.model_store import open_store
from tests.server.conftest import serving, wait_for


def test_nothing_is_live_yet(served):
    """Before the first version the server is alive but not ready, and says what it waits for."""
    assert served.client.get("/healthz").status_code == 200
    for path in ("/readyz", "/v1/model", "/openapi.json"):
        answer = served.client.get(path)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "not-ready")
    assert "first look" in answer.json()["error"]["message"]
    served.follower.look()
    assert "no live version yet" in served.client.get("/readyz").json()["error"]["message"]
    assert served.score().status_code == 503
    assert served.metric("saec_server_ready") == 0


def test_a_published_version_answers(served):
    """Each answer names the version in body and header; /v1/model says since when it is live and why."""
    version = served.publish(0.25)
    served.follower.look()
    answer = served.score()
    assert answer.json() == {"version": version, "scores": [0.25]}
    assert answer.headers["saec-version"] == version
    told = served.client.get("/v1/model").json()
    assert (told["version"], told["hour"]) == (version, "2017-10-01T03")
    assert (told["from_cache"], told["refused"]) == (False, None)
    assert (told["release"]["action"], told["release"]["held"]) == ("publish", False)
    assert served.client.get("/readyz").json() == {"ready": True, "version": version}


def test_the_next_version_takes_its_place(served):
    """A swap is counted, and the model before it is gone from memory."""
    served.publish(0.25)
    served.follower.look()
    before = weakref.ref(served.standing.live.model)
    second = served.publish(0.5)
    served.follower.look()
    assert served.score().json() == {"version": second, "scores": [0.5]}
    gc.collect()
    assert before() is None
    assert served.metric("saec_server_swaps_total") == 1


def test_rollback_and_hold_are_obeyed(served):
    """A rollback brings the older version back and says that it is held; a hold changes nothing else."""
    first, second = served.publish(0.25), served.publish(0.5)
    served.follower.look()
    served.store.rollback(first, actor="ann", reason="calibration off")
    served.follower.look()
    assert served.score().json()["version"] == first
    assert served.client.get("/v1/model").json()["release"] == pytest.approx(
        {
            "sequence": 3,
            "action": "rollback",
            "held": True,
            "actor": "ann",
            "reason": "calibration off",
            "at": served.store.live().at,
        }
    )
    served.store.unhold(actor="ann", reason="fine again")
    model = served.standing.live.model
    served.follower.look()
    assert served.metric("saec_server_live_version_held") == 0
    assert served.standing.live.model is model  # not loaded once more
    served.store.rollback(second, actor="ann", reason="fine again")
    served.follower.look()
    assert served.score().json()["version"] == second


@pytest.mark.fault(26)
@pytest.mark.parametrize("broken", ["open", "check", "damaged"])
def test_a_refused_version_changes_nothing(served, broken, caplog):
    """The last good version goes on answering; the refusal is counted, said once, and told by /v1/model."""
    good = served.publish(0.25)
    served.follower.look()
    bad = served.publish(0.5, broken=broken)
    if broken == "damaged":
        (served.folder / "store" / "versions" / bad / "codes.bin").write_bytes(b"other")
    for _ in range(3):
        served.follower.look()
    assert served.score().json()["version"] == good
    told = served.client.get("/v1/model").json()
    assert told["refused"]["version"] == bad
    assert served.metric("saec_server_version_refused") == 1
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    third = served.publish(0.75)
    served.follower.look()
    assert served.score().json()["version"] == third
    assert served.client.get("/v1/model").json()["refused"] is None


def test_a_refused_version_is_tried_again_after_growing_pauses(served, monkeypatch):
    """A version that was damaged answers when it is whole again, without a new release."""
    now = [100.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    version = served.publish(0.5)
    path = served.folder / "store" / "versions" / version / "codes.bin"
    whole = path.read_bytes()
    path.write_bytes(b"other")
    tried = []
    for _ in range(100):
        refused = served.standing.refusals
        served.follower.look()
        if served.standing.refusals > refused:
            tried.append(now[0] - 100)
        now[0] += 0.5
    assert tried == [0, 1, 3, 7, 15, 31]
    assert "cannot be used" in served.client.get("/readyz").json()["error"]["message"]
    path.write_bytes(whole)
    now[0] += 32
    served.follower.look()
    assert served.score().json()["version"] == version


def test_a_store_that_is_away_changes_nothing(served, caplog):
    """Answers go on, the outage is counted and said once, and what is released in it counts when it is over."""
    first = served.publish(0.25)
    served.follower.look()
    releases, away = served.folder / "store" / "releases", served.folder / "away"
    served.store.publish(second := served.publish(0.5), actor="run", reason="again", fence=1)
    releases.rename(away)
    releases.write_text("in its place")
    for _ in range(3):
        served.follower.look()
    assert served.score().json()["version"] == first
    assert served.metric("saec_server_failed_polls_total") == 3
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    releases.unlink()
    away.rename(releases)
    served.follower.look()
    assert served.score().json()["version"] == second


@pytest.mark.parametrize("remove", [False, True])
def test_a_removed_record_is_noticed_within_a_minute(served, monkeypatch, remove):
    """The log is only asked for the next record, and listed once a minute."""
    now = [100.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    first, second = served.publish(0.25), served.publish(0.5)
    served.follower.look()
    if remove:
        (served.folder / "store" / "releases" / "00000002.json").unlink()
    now[0] += 59
    served.follower.look()
    assert served.score().json()["version"] == second
    now[0] += 1
    served.follower.look()
    assert served.score().json()["version"] == (first if remove else second)


@pytest.mark.fault(9)
def test_a_restart_with_the_store_away_answers_from_the_last_good_version(tmp_path):
    """The copy answers at once and says what it is; when the store is back, it is no longer from the cache."""
    cache, store = tmp_path / "cache", tmp_path / "store"
    with serving(tmp_path, cache=cache) as before:
        before.publish(0.25)
        version = before.publish(0.5)
        before.follower.look()
    store.rename(tmp_path / "moved")
    store.write_text("no folder")
    with serving(tmp_path, cache=cache) as after:
        after.follower.recall()
        after.follower.look()
        assert after.score().json() == {"version": version, "scores": [0.5]}
        assert after.client.get("/v1/model").json()["from_cache"] is True
        assert after.metric("saec_server_live_version_from_cache") == 1
        store.unlink()
        (tmp_path / "moved").rename(store)
        after.follower.look()
        assert after.client.get("/v1/model").json()["from_cache"] is False


def test_the_cache_keeps_one_version_and_is_verified(tmp_path):
    """Only the last good version is kept, byte for byte; a damaged copy is not answered from, and then replaced."""
    cache = tmp_path / "cache"
    with serving(tmp_path, cache=cache) as served:
        for level in (0.25, 0.5):
            version = served.publish(level)
            served.follower.look()
        kept = cache / "versions" / version
        original = {path.name: path.read_bytes() for path in (tmp_path / "store" / "versions" / version).iterdir()}
        assert [path.name for path in (cache / "versions").iterdir()] == [version]
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == original
    (kept / "codes.bin").write_bytes(b"other")
    with serving(tmp_path, cache=cache) as served:
        served.follower.recall()
        assert served.standing.live is None
        served.follower.look()
        assert served.score().json()["version"] == version
    assert LastGood(cache).last()[1].version == version


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_answer(tmp_path, caplog):
    """The version answers; that a restart will need the store is logged."""
    (tmp_path / "cache").write_text("no folder")
    with serving(tmp_path, cache=tmp_path / "cache") as served:
        version = served.publish(0.5)
        served.follower.recall()
        served.follower.look()
        assert served.score().json()["version"] == version
    assert "a restart will need the store" in caplog.text


def test_the_thread_follows_by_itself(served):
    """A publication and a rollback take effect without being asked for; the thread ends with the server."""
    first = served.publish(0.25)
    with served.follower:
        wait_for(lambda: served.standing.live)
        served.publish(0.5)
        wait_for(lambda: served.score().json()["scores"] == [0.5])
        served.store.rollback(first, actor="ann", reason="drill")
        wait_for(lambda: served.score().json()["scores"] == [0.25])
    assert "follow-store" not in {thread.name for thread in threading.enumerate()}


def test_looking_costs_one_request(served, monkeypatch):
    """As long as nothing is released, the log is not listed, however long it is."""
    served.publish(0.5)
    served.follower.look()
    store = open_store(served.folder / "store")
    known = store.live()
    monkeypatch.setattr(type(store.objects), "list", lambda *_: pytest.fail("listed"))
    assert store.live_after(known) == known
    monkeypatch.undo()
    shutil.rmtree(served.folder / "store")
    assert store.live_after(None) is None
