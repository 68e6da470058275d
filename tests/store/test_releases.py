"""Contract of the release log and of its rules, over every kind of store."""

from __future__ import annotations

import pytest

from saec.errors import IntegrityError, LeaseLost, ReleaseConflict, StoreError
from saec.hours import Hour
from saec.store.model_store import open_store
from saec.store.releases import Release, ReleaseLog

HOUR = Hour.parse("2017-10-01T03")
RUN = {"actor": "run", "reason": "passed"}
PERSON = {"actor": "ann", "reason": "looks wrong"}


@pytest.fixture
def versions(store, commit):
    """Ids of three versions of three hours, none published."""
    return [commit(store, hour=HOUR + hour) for hour in range(3)]


def test_publishing_makes_a_version_live(store, versions):
    """The last release names the live version and the one before; the log keeps every step with actor and reason."""
    first = store.publish(versions[0], **RUN, fence=1, expected=0)
    second = store.publish(versions[1], **RUN, fence=1, expected=1)
    assert (first.sequence, first.version, first.previous, first.held) == (1, versions[0], None, False)
    assert (second.sequence, second.version, second.previous) == (2, versions[1], versions[0])
    assert (second.action, second.actor, second.reason, second.fence) == ("publish", "run", "passed", 1)
    assert store.live() == second
    assert store.releases() == [first, second]


def test_who_knows_what_was_live_asks_for_no_more_than_the_next_record(store, versions, monkeypatch):
    """Nothing new: what was known, and nothing is listed; else the last record, however many came in between."""
    assert store.live_after(None) is None
    first = store.publish(versions[0], actor="run", reason="better", fence=1)
    assert store.live_after(None) == first
    with monkeypatch.context() as patch:
        patch.setattr(type(store.objects), "list", lambda *_: pytest.fail("listed"))
        assert store.live_after(first) == first
    store.hold(actor="ann", reason="launch")
    last = store.unhold(actor="ann", reason="over")
    assert store.live_after(first) == last


def test_publishing_the_live_version_again_changes_nothing(store, versions):
    """A run that died after publishing is repeated without a second release, whatever it expected."""
    first = store.publish(versions[0], **RUN, fence=1, expected=0)
    assert store.publish(versions[0], **RUN, fence=2, expected=0) == first
    assert store.releases() == [first]


def test_publishing_the_live_version_again_makes_its_record_last(store, versions, monkeypatch):
    """Whoever wrote it may have been killed before it was sure to stay."""
    store.publish(versions[0], **RUN, fence=1)
    settled = []
    monkeypatch.setattr(type(store.objects), "settle", lambda _, name: settled.append(name))
    store.publish(versions[0], **RUN, fence=1)
    assert settled == ["releases/00000001.json"]


def test_publishing_on_an_old_decision_is_refused(store, versions):
    """When the last release is not the one the gate compared with, the decision does not stand."""
    store.publish(versions[0], **RUN, fence=1)
    with pytest.raises(ReleaseConflict, match="decided on release 0"):
        store.publish(versions[1], **RUN, fence=1, expected=0)
    assert store.live().version == versions[0]


@pytest.mark.fault(11, 16)
def test_an_older_hour_is_archived(store, versions, commit):
    """A version of an hour before the live one is not published; one of the same hour is."""
    store.publish(versions[1], **RUN, fence=1)
    with pytest.raises(StoreError, match="archived") as caught:
        store.publish(versions[0], **RUN, fence=1)
    assert caught.value.reason == "superseded"
    assert store.live().version == versions[1]
    again = commit(store, hour=HOUR + 1, content=b"trained again")
    assert store.publish(again, **RUN, fence=1).previous == versions[1]


@pytest.mark.fault(68)
def test_a_rollback_stays_until_released(store, versions):
    """After a rollback nothing is published until the hold ends; then the next hour's version is."""
    for version in versions[:2]:
        store.publish(version, **RUN, fence=1)
    rolled = store.rollback(versions[0], **PERSON)
    assert (rolled.action, rolled.version, rolled.previous, rolled.held) == ("rollback", versions[0], versions[1], True)
    with pytest.raises(StoreError, match="ann holds") as caught:
        store.publish(versions[2], **RUN, fence=1)
    assert caught.value.reason == "held"
    released = store.unhold(**PERSON)
    assert (released.action, released.version, released.previous, released.held) == (
        "unhold",
        versions[0],
        versions[1],
        False,
    )
    assert store.publish(versions[2], **RUN, fence=1).previous == versions[0]


def test_a_record_of_before_the_renaming_is_read(store, versions):
    """What ended a hold was called "release"."""
    store.publish(versions[0], **RUN, fence=1)
    known = store.live().model_dump() | {"action": "release"}
    assert Release.model_validate(known).action == "unhold"


def test_a_hold_keeps_what_is_live(store, versions):
    """A hold changes nothing but that; it works before the first release too."""
    assert store.hold(**PERSON).version is None
    with pytest.raises(StoreError, match="ann holds the store"):
        store.publish(versions[0], **RUN, fence=1)
    store.unhold(**PERSON)
    store.publish(versions[0], **RUN, fence=1)
    held = store.hold(**PERSON)
    assert (held.version, held.held, held.sequence) == (versions[0], True, 4)
    store.unhold(**PERSON)
    with pytest.raises(StoreError) as caught:
        store.unhold(**PERSON)
    assert caught.value.reason == "not-held"


@pytest.mark.fault(26)
def test_damaged_or_absent_versions_never_go_live(store, versions):
    """Both publish and rollback read every stored byte first; the live version stays."""
    store.publish(versions[0], **RUN, fence=1)
    store.objects.delete(f"versions/{versions[1]}/codes.bin")
    with pytest.raises(IntegrityError, match=r"codes\.bin is missing"):
        store.publish(versions[1], **RUN, fence=1)
    with pytest.raises(IntegrityError, match=r"codes\.bin is missing"):
        store.rollback(versions[1], **PERSON)
    with pytest.raises(StoreError, match="no version"):
        store.rollback("20171001T03-0123456789ab", **PERSON)
    assert store.live().sequence == 1


@pytest.mark.fault(6)
def test_a_run_that_lost_its_lease_cannot_release(store, versions):
    """After a release under lease 5, a run with lease 4 is refused everything; a person needs no lease."""
    store.publish(versions[0], **RUN, fence=5)
    for change in (
        lambda: store.publish(versions[1], **RUN, fence=4),
        lambda: store.publish(versions[0], **RUN, fence=4),
        lambda: store.rollback(versions[0], **PERSON, fence=4),
        lambda: store.hold(**PERSON, fence=4),
    ):
        with pytest.raises(LeaseLost, match="lease 4 may not release"):
            change()
    assert store.hold(**PERSON).fence == 5


def test_of_two_decisions_on_one_release_one_is_taken(store, versions, monkeypatch):
    """A writer that read the log before another appended to it is refused, though its number was free then."""
    last = store.publish(versions[0], **RUN, fence=1)
    with monkeypatch.context() as patch:
        patch.setattr(store, "live", lambda: last)
        store.hold(**PERSON)
        with pytest.raises(ReleaseConflict, match="another writer created release 2 first"):
            store.publish(versions[1], **RUN, fence=1, expected=1)
        with pytest.raises(ReleaseConflict):  # the very same decision, in the same second, is still another's
            store.hold(**PERSON)
    assert store.live().action == "hold"


def test_a_damaged_last_release_is_an_error(store, versions):
    """The log never falls back silently to an older record; names that are no records are passed over."""
    store.publish(versions[0], **RUN, fence=1)
    store.objects.put_if_absent("releases/notes.txt", b"x")
    assert store.live().version == versions[0]
    store.objects.put_if_absent("releases/00000002.json", b"{}")
    with pytest.raises(IntegrityError, match=r"00000002\.json is not a release record"):
        store.live()
    store.objects.delete("releases/00000002.json")
    record = store.objects.get("releases/00000001.json", 1 << 16)
    store.objects.put_if_absent("releases/00000003.json", record)
    with pytest.raises(IntegrityError, match="says it is release 1"):
        store.live()


def test_every_record_that_is_missing_or_damaged_is_told(store, versions):
    """The first as well as one in between; a log that is whole has no problem, nor has one without any record."""
    assert store.release_problems() == {}
    for version in versions:
        store.publish(version, **RUN, fence=1)
    assert store.release_problems() == {}
    store.hold(**PERSON)
    for number in (1, 3):
        store.objects.delete(f"releases/{number:08d}.json")
    store.objects.delete("releases/00000002.json")
    store.objects.put_if_absent("releases/00000002.json", b"{}")
    told = store.release_problems()
    assert [*told] == [f"releases/{number:08d}.json" for number in (1, 2, 3)]
    assert told["releases/00000001.json"] == told["releases/00000003.json"] == "is missing, though later ones are there"
    assert "is not a release record" in told["releases/00000002.json"]


@pytest.mark.fault(31)
def test_a_lost_answer_to_a_create_is_a_success(s3_url, tmp_path, monkeypatch, commit):
    """When S3 wrote the record but the answer was lost, the retry's "exists already" is told from a lost race."""
    from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

    from saec.store import remote  # noqa: PLC0415

    store = open_store(s3_url, cache=tmp_path / "cache")
    version, real = commit(store), remote.obstore.put

    def put_and_lose_the_answer(objects, name, data, **options):
        real(objects, name, data, **options)
        if options.get("mode") == "create":
            raise AlreadyExistsError("412 to our own retry")

    monkeypatch.setattr(remote.obstore, "put", put_and_lose_the_answer)
    assert store.publish(version, **RUN, fence=1).sequence == 1
    assert store.live().version == version


@pytest.mark.parametrize(
    "url", ["s3://ann:canary-secret@bucket/models?token=canary-secret", "nosuch://canary-secret@x/y"]
)
def test_secrets_in_a_url_stay_out_of_messages(url, tmp_path, monkeypatch):
    """Whether the URL cannot be used or the server cannot be reached, the error names the store without secrets."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("saec.store.remote.RETRY", {"max_retries": 0})
    with pytest.raises(StoreError) as caught:
        open_store(url, cache=tmp_path).live()
    assert "canary-secret" not in str(caught.value)
    assert "://bucket/models" in str(caught.value) or "nosuch://x/y" in str(caught.value)


def test_a_missing_bucket_is_a_store_error(s3_url, tmp_path):
    """A bucket that does not exist is reported when it is first used, reading or writing."""
    store = open_store(s3_url.replace("models-", "absent-"), cache=tmp_path)
    with pytest.raises(StoreError, match="absent-"):
        store.hold(**PERSON)


@pytest.mark.parametrize("reason", ["x", "a reason of many more words than the other writer's"])
def test_race_is_lost_to_a_record_of_any_length(store, reason):
    """Whoever comes second is told that another was first, however much longer that record is than its own."""
    store.hold(actor="first", reason=reason, fence=0)
    with pytest.raises(ReleaseConflict):
        ReleaseLog(store.objects).append(
            None, action="hold", version=None, held=True, actor="second", reason="y", fence=0, previous=None
        )
