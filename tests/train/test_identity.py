"""The identity of a state: independent of the layout of its files, different if any element differs."""

import numpy as np
import pytest

import saec.train.original
from saec.train.original import Original
from tests.train.test_original import do_hour, done, hours_from


def identities(click_hours, changed=None, hours=3, **sections):
    """Identities after each of some hours; `changed` alters the rows of the last."""
    original, found = Original(click_hours.config(**sections)), []
    for hour in hours_from(click_hours, hours):
        rows = click_hours.rows(hour)
        if changed and hour == click_hours.first + hours - 1:
            changed(rows)
        do_hour(original, rows, hour)
        found.append(original.identity)
    return found


def test_the_same_hours_come_to_the_same_name(click_hours):
    """Each hour's is another, and doing them again comes to the same ones."""
    found = identities(click_hours)
    assert len({*found}) == 3
    assert found == identities(click_hours)


def test_a_label_or_a_feature_more_is_another_name(click_hours):
    """Whatever an hour learns otherwise shows in its state's name."""

    def another_key(rows):
        rows.keys_BS[0, 0] += np.uint64(1)

    plain = identities(click_hours)
    for changed in (lambda rows: rows.labels_B.__setitem__(0, rows.labels_B[0] ^ 1), another_key):
        other = identities(click_hours, changed)
        assert (other[:2], other[2] != plain[2]) == (plain[:2], True)


def test_what_was_forgotten_is_part_of_the_name(click_hours, monkeypatch):
    """Two states that have learnt the same hour after forgetting other features are not called the same."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 1)
    found, last = [], click_hours.first + 40
    for after in (3, 30):
        original = done(click_hours, 6, vocabulary={"evict_after": 10**4, "evict_floor": 1e9})
        assert not found or original.identity == found[0][0]
        before = original.identity
        original.vocabulary._config = original.vocabulary._config.model_copy(update={"evict_after": after + 36})
        do_hour(original, click_hours.rows(last, 0), last)
        found.append((before, len(original.vocabulary), original.identity))
    assert found[0][1] < found[1][1]
    assert found[0][2] != found[1][2]


@pytest.mark.parametrize("told", [True, False])
def test_a_restored_state_keeps_its_name(click_hours, told):
    """A state of an earlier release, which does not tell it, is called by its file."""
    original = done(click_hours, 2)
    arrays = {name: np.array(array) for name, array in original.snapshot().arrays.items()}
    if told:
        assert Original.restore(original.config, arrays, "a file").identity == original.identity
        return
    del arrays["state.identity"]
    one, other, again = (Original.restore(original.config, arrays, file).identity for file in ("a", "b", "a"))
    assert one == again != other
