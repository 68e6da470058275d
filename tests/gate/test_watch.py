"""After the release: a live version that is shown to be worse raises an alarm, and is rolled back once."""

import json
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saec.config import GateConfig
from saec.errors import StoreError
from saec.gate.watch import BEFORE, ORIGINAL, watched
from saec.records import Published
from saec.steps import _given_way
from saec.store.model_store import open_store
from tests.properties import examples
from tests.store.drills import HOUR, commit_version

CONFIG = GateConfig()


def hours(planted, count, rows, *, live=0.0, before=0.0, original=0.0, known=None):
    """So many hours of rows, scored by models with so much noise; returns the last watch."""
    for seed in range(count):
        truth = planted(rows, seed)
        scores = {name: truth.model(noise) for name, noise in ((ORIGINAL, original), (BEFORE, before))}
        watch = watched("v2", known, truth.labels_B, truth.model(live), scores, CONFIG)
        known = json.loads(json.dumps(watch.as_dict(), allow_nan=False))
    return watch


def test_equal_models_are_never_called_worse(planted):
    """Over many hours of the same quality nothing is said."""
    watch = hours(planted, 12, 1_000, live=0.1, before=0.1, original=0.1)
    assert (watch.worse_than, watch.text) == ((), "")


def test_a_worse_version_is_called_so_by_name_and_figures(planted):
    """Worse than both: the version before comes first, and the text has the figures that showed it."""
    watch = hours(planted, 1, 4_000, live=2.0)
    assert watch.worse_than == (BEFORE, ORIGINAL)
    assert watch.text.startswith("live version v2 is shown worse on the hours that it served: auc 0.")


def test_worse_than_the_original_alone_names_it_alone(planted):
    """The version before was as bad: going back to it would not help."""
    watch = hours(planted, 6, 2_000, live=2.0, before=2.0)
    assert watch.worse_than == (ORIGINAL,)


def test_small_hours_add_up(planted):
    """What one hour of few rows cannot show, many of them do."""
    assert hours(planted, 1, 60, live=1.5).worse_than == ()
    assert BEFORE in hours(planted, 30, 60, live=1.5).worse_than


def test_another_version_starts_afresh(planted):
    """What was known of the version before counts for nothing against the new one."""
    bad = hours(planted, 3, 2_000, live=2.0)
    truth = planted(2_000, 9)
    scores = {ORIGINAL: truth.model(), BEFORE: truth.model()}
    watch = watched("v3", bad.as_dict(), truth.labels_B, truth.model(), scores, CONFIG)
    assert watch.worse_than == ()
    assert watch.evidence["pairs"][ORIGINAL]["rows"] == 2_000


@pytest.fixture(scope="module")
def template(done, tmp_path_factory):
    """A store with three releases and nothing held."""
    site = done.copy(tmp_path_factory.mktemp("watched") / "site")
    assert len(site.store.versions()) >= 3
    return site


@given(events=st.lists(st.sampled_from(["publish", "nothing", "release"]), max_size=10), worse=st.booleans())
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_cannot_flap(tmp_path_factory, monkeypatch, events, worse):
    """Whatever hours and persons do: at most one rollback a publication; after it nothing moves until a person acts."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    plan = SimpleNamespace(
        config=SimpleNamespace(gate=GateConfig(rollback=True)),
        promote=True,
        fence=1,
        actor="a test",
        workspace=SimpleNamespace(store=lambda: store),
    )
    held = Published("HELD", "undecided", "not now.", None)
    for number, event in enumerate(["publish", *events]):
        before = store.live()
        plan.before_live = store.before_live()
        if event == "release":
            with suppress(StoreError):
                store.unhold(actor="a person", reason="seen")
            continue
        if event == "publish" and not (before and before.held):
            store.publish(commit_version(store, HOUR + number, b"v"), actor="a test", reason="PASS", fence=1)
            continue
        watch = {"worse_than": [BEFORE] if worse or event == "nothing" else [], "text": "it is worse"}
        given_way = _given_way(plan, watch, held)
        if store.live() != before:
            assert not before.held, "a rollback followed a rollback"
            assert (store.live().version, store.live().held) == (plan.before_live, True)
            assert given_way.message == f"not now. Rolled back to {plan.before_live}, and held: it is worse."
    actions = [release.action for release in store.releases()]
    assert actions.count("rollback") <= actions.count("publish") - 1
    assert all(
        "publish" in actions[first:second]
        for first, second in pairwise([place for place, action in enumerate(actions) if action == "rollback"])
    )


def test_the_store_knows_one_version_before_a_publication_and_none_before_a_rollback(template):
    """So a rollback never leads to another: nothing is published while held, and a rollback has nothing before it."""
    store = template.store
    *_, before, live = store.versions()
    assert (store.live().version, store.before_live()) == (live, before)
    store.rollback(before, actor="a test", reason="worse")
    assert (store.live().version, store.live().held, store.before_live()) == (before, True, None)
    store.unhold(actor="a person", reason="seen")
    assert store.before_live() is None
