"""The vocabulary: who gets a row, when, and for how long."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saec.config import VocabularyConfig
from saec.data.hour_features import PADDING_ROW, HourFeatures
from saec.data.vocabulary import CLASSES, NEVER, Vocabulary
from saec.hours import Hour
from tests.properties import examples

HOUR = Hour.parse("2017-10-01T03")
FIELDS = np.array([0, 1])
OWN = len(FIELDS) * (1 + CLASSES)
"""The first row that a feature of its own can have, behind the default rows and class rows."""


def features(*rows, slot_fields=FIELDS):
    """The features of rows of keys."""
    return HourFeatures.of(np.array(rows, np.uint64).reshape(-1, len(slot_fields)), np.array(slot_fields))


def vocabulary(**knobs):
    return Vocabulary(VocabularyConfig(**knobs), len(FIELDS))


def rows_of(vocabulary, *keys, field=0):
    """Rows of some keys of one field, in the order given."""
    found = vocabulary.rows_of(HourFeatures(np.array(keys, np.uint64), np.full(len(keys), field), None, None))
    return found.tolist()


def test_hour_features_count_and_place_every_cell():
    """Distinct keys ascend, with their field and count, and spread back into their matrix; 0 is padding."""
    hour = features((30, 7, 0), (30, 0, 0), (20, 7, 9), slot_fields=[0, 1, 1])
    assert hour.keys_U.tolist() == [7, 9, 20, 30]
    assert hour.fields_U.tolist() == [1, 1, 0, 0]
    assert hour.counts_U.tolist() == [2, 1, 1, 2]
    assert hour.spread(hour.keys_U.astype(np.int64)).tolist() == [[30, 7, -1], [30, -1, -1], [20, 7, 9]]
    assert hour.spread(hour.counts_U, padding=-9)[1].tolist() == [2, -9, -9]


@pytest.mark.parametrize("rows", [(), ((0, 0), (0, 0))])
def test_an_hour_without_features(rows):
    """No rows, or nothing but padding, are no features."""
    hour = features(*rows)
    assert len(hour.keys_U) == len(hour.fields_U) == len(hour.counts_U) == 0
    assert (hour.spread(hour.counts_U) == PADDING_ROW).all()


def test_sightings_within_the_hour_never_admit():
    """However often an hour shows a feature, it uses the default row in it: counting would leak the future."""
    known = vocabulary(admit_after=1)
    hour = features(*[(11, 22)] * 1000)
    assert known.admit(hour).tolist() == [0, 1]
    assert known.admit(hour).tolist() == [0, 1]
    known.observe(HOUR, hour)
    assert known.admit(hour).tolist() == [OWN, OWN + 1]


def test_admission_waits_for_enough_earlier_sightings():
    """A feature seen once an hour gets its row in the hour after `admit_after` of these, and keeps it."""
    known, hour, rows = vocabulary(admit_after=3), features((11, 22)), []
    for step in range(5):
        rows.append(known.admit(hour).tolist())
        known.observe(HOUR + step, hour)
    assert rows == [[0, 1], [0, 1], [0, 1], [OWN, OWN + 1], [OWN, OWN + 1]]
    assert known.admitted == 2


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(1, 5))
def test_admission_equals_counting_earlier_hours(hours, admit_after):
    """In any sequence of hours, a feature owns a row if, and only if, its earlier sightings are enough."""
    known = Vocabulary(VocabularyConfig(admit_after=admit_after), 1)
    earlier: Counter[int] = Counter()
    for step, keys in enumerate(hours):
        hour = features(*keys, slot_fields=[0])
        rows = dict(zip(hour.keys_U.tolist(), known.admit(hour).tolist(), strict=True))
        assert {key for key, row in rows.items() if row > 0} == {key for key in rows if earlier[key] >= admit_after}
        known.observe(HOUR + step, hour)
        earlier.update(keys)
    own = known.row_V[known.row_V >= 0]
    assert sorted(own.tolist()) == list(range(known.shared, known.rows))
    assert known.sightings_V.sum() == sum(earlier.values())


def test_unknown_features_use_their_fields_default_row():
    """Row f is the default row of field f."""
    assert rows_of(vocabulary(), 5, 6, field=1) == [1, 1]


@pytest.mark.parametrize(
    ("frequency", "age", "number"),
    [(0, 0, 0), (0.3, 1, 1), (1.9, 1, 1), (1, 2, 2), (1, 23, 3), (1, 24, 4), (1, 10**6, 5), (2, 1, 6), (1e9, 99, 40)],
)
def test_classes_of_frequency_and_age(frequency, age, number):
    """A field's class rows go by octaves of frequency, then by age; the unknown are class 0, however old."""
    rows = vocabulary().class_rows(FIELDS, np.full(2, frequency, np.float32), np.array([age, age - NEVER * (age == 0)]))
    assert rows.tolist() == [2 * (1 + number), 2 * (1 + number) + 1]
    assert rows.max() < OWN


def test_classes_are_of_the_hours_start():
    """What an hour holds does not move its features to another class before it is counted."""
    known, hour = vocabulary(half_life=1e9), features(*[(11, 22)] * 4)
    classes = [known.classes_of(HOUR, hour).tolist()]
    known.admit(hour)
    assert known.classes_of(HOUR, hour).tolist() == classes[0]
    known.observe(HOUR, hour)
    classes += [known.classes_of(HOUR + age, hour).tolist() for age in (1, 30)]
    assert classes == [[2, 3], [2 * 12, 2 * 12 + 1], [2 * 15, 2 * 15 + 1]]


def test_frequency_halves_every_half_life():
    """Sightings count half after one half-life and a quarter after two, and new ones add to what is left."""
    known = vocabulary(half_life=10.0)
    known.observe(HOUR, features(*[(11, 0)] * 8))
    assert [float(known.frequency(HOUR + age)[0]) for age in (0, 10, 20)] == pytest.approx([8.0, 4.0, 2.0])
    known.observe(HOUR + 10, features((11, 0)))
    assert float(known.frequency(HOUR + 10)[0]) == pytest.approx(5.0)
    assert float(known.frequency(HOUR + 20)[0]) == pytest.approx(2.5)
    assert known.sightings_V.tolist() == [9]


def test_what_is_known_of_features_before_an_hour():
    """Frequency decayed to the hour and the hour last seen, in the order asked; 0 and `NEVER` for the unknown."""
    known = vocabulary(half_life=10.0)
    known.observe(HOUR, features(*[(11, 0)] * 8))
    known.observe(HOUR + 5, features((12, 0)))
    frequency_N, last_seen_N = known.known_of(HOUR + 10, known.find(np.array([12, 99, 11], np.uint64)))
    assert frequency_N == pytest.approx([2**-0.5, 0.0, 4.0])
    assert last_seen_N.tolist() == [HOUR.index + 5, NEVER, HOUR.index]
    assert (frequency_N.dtype, last_seen_N.dtype) == (np.float32, np.int64)
    known.observe(HOUR + 10, features((11, 12)))
    assert frequency_N[2] == pytest.approx(4.0), "what was known before is a copy"


def test_nothing_is_known_of_no_features():
    """An hour without features, or a vocabulary without any."""
    for ids_U in (np.zeros(0, np.int64), np.array([-1, -1])):
        frequency_U, last_seen_U = vocabulary().known_of(HOUR, ids_U)
        assert frequency_U.tolist() == [0.0] * len(ids_U)
        assert last_seen_U.tolist() == [NEVER] * len(ids_U)


def test_sightings_in_some_rows_of_an_hour():
    """Each distinct feature's cells in these rows, 0 for those of other rows; padding counts for nobody."""
    hour = features((30, 7, 0), (30, 0, 0), (20, 7, 9), slot_fields=[0, 1, 1])
    assert hour.keys_U.tolist() == [7, 9, 20, 30]
    assert hour.sightings(slice(0, 2)).tolist() == [1, 0, 0, 2]
    assert hour.sightings(slice(2, None)).tolist() == [1, 1, 1, 0]
    assert hour.sightings(slice(0, 0)).tolist() == [0, 0, 0, 0]


def admitted(**knobs):
    """A vocabulary in which keys 1 to 6 of field 0 own the first rows, key k last seen at hour k with frequency k."""
    known = vocabulary(admit_after=1, half_life=1e9, **knobs)
    for key in range(1, 7):
        known.observe(HOUR + key, features(*[(key, 0)] * key))
    known.admit(features(*[(key, 0) for key in range(1, 7)]))
    return known


def test_a_forgotten_feature_leaves_its_row_until_its_shard_is_drawn_anew():
    """Others keep their rows at first; what `drawn` returns moves a table's rows to where they then point."""
    known = admitted(evict_after=10, evict_floor=100.0)
    before = rows_of(known, *range(1, 7))
    table = np.arange(known.rows) * 10
    ids, keys = known.evict(HOUR + 14)
    assert (ids.tolist(), keys.tolist()) == ([0, 1, 2], [1, 2, 3])
    assert rows_of(known, *range(1, 7)) == [0, 0, 0, *before[3:]]
    assert (len(known), known.admitted, known.rows) == (3, 3, OWN + 6)
    arrays, rows = known.drawn(known.places(), 0, None)
    assert rows.tolist() == [*range(OWN), OWN + 3, OWN + 4, OWN + 5]
    known.lay(0, arrays, rows=len(rows))
    after = {key: table[rows][row] for key, row in zip((4, 5, 6), rows_of(known, 4, 5, 6), strict=True)}
    assert after == {key: table[row] for key, row in zip((4, 5, 6), before[3:], strict=True)}
    assert rows_of(known, 1, 2, 3) == [0, 0, 0]
    assert (len(known), known.admitted, known.rows) == (3, 3, len(rows))
    assert not known.forgotten(0)


def test_nothing_changes_while_nobody_is_due():
    """Before anything is unseen for long enough, `evict` forgets nothing and says so."""
    known = admitted(evict_after=10, evict_floor=100.0)
    assert [len(told) for told in known.evict(HOUR + 10)] == [0, 0]
    assert len(known) == 6


def test_nothing_is_forgotten_twice():
    """What was forgotten and not dropped is not told again, and counts neither as known nor as having a row."""
    known = admitted(evict_after=10, evict_floor=100.0)
    known.evict(HOUR + 14)
    ids, keys = known.evict(HOUR + 15)
    assert (ids.tolist(), keys.tolist()) == ([3], [4])
    assert (len(known), known.admitted) == (2, 2)


def test_frequent_features_outlive_their_absence():
    """Unseen features at the floor or above stay."""
    known = admitted(evict_after=1, evict_floor=2.9)
    known.evict(HOUR + 100)
    assert sorted(known.keys_V[known.places()].tolist()) == [3, 4, 5, 6]


def test_an_evicted_feature_starts_again():
    """Once forgotten, a feature is a new one, though it takes its old place: it has to earn its row anew."""
    known = admitted(evict_after=1, evict_floor=100.0)
    known.evict(HOUR + 100)
    assert len(known) == known.admitted == 0
    hour = features((3, 0))
    assert known.admit(hour).tolist() == [0]
    assert known.classes_of(HOUR + 100, hour).tolist() == [2]
    assert known.observe(HOUR + 100, hour) == 1
    assert known.find(hour.keys_U).tolist() == [2]
    assert (known.sightings_V[2], float(known.frequency(HOUR + 100)[2])) == (1, 1.0)
    assert known.admit(hour).tolist() == [OWN + 6]
    assert (len(known), known.admitted) == (1, 1)
    ids, _ = known.evict(HOUR + 200)
    assert ids.tolist() == [2]


@pytest.mark.fault(48)
def test_a_burst_is_capped_in_each_field_at_the_most_frequent():
    """Of more new features than an hour may bring, each field keeps its most frequent ones."""
    known = vocabulary(max_new_features=2, admit_after=1)
    burst = features(*[(key, 0) for key in (5, 6, 6, 7, 8, 8, 8)], (0, 21), (0, 22), (0, 23))
    assert known.observe(HOUR, burst) == 4
    assert sorted(known.keys_V.tolist()) == [6, 8, 21, 22]
    assert known.admit(burst).tolist() == [0, OWN, 0, OWN + 1, OWN + 2, OWN + 3, 1]  # keys 5 6 7 8 21 22 23


def test_a_burst_cannot_stop_known_features_from_being_counted():
    """The cap is on new features: those known before are counted in any hour."""
    known = vocabulary(max_new_features=1)
    known.observe(HOUR, features((5, 0)))
    known.observe(HOUR + 1, features((5, 0), (6, 0), (7, 0)))
    assert dict(zip(known.keys_V.tolist(), known.sightings_V.tolist(), strict=True)) == {5: 2, 6: 1}


def test_restored_equals_the_original():
    """A vocabulary restored from its state goes on exactly as the one it was taken from."""
    known = admitted(evict_after=4, evict_floor=2.0)
    restored = Vocabulary.restore(
        VocabularyConfig(admit_after=1, half_life=1e9, evict_after=4, evict_floor=2.0),
        len(FIELDS),
        {name: np.array(array) for name, array in known.state().items()},
    )
    for twin in (known, restored):
        twin.observe(HOUR + 20, features((6, 40), (41, 0)))
        twin.admit(features((41, 40)))
        twin.evict(HOUR + 30)
    assert (known.rows, len(known)) == (restored.rows, len(restored))
    for name, array in known.state().items():
        assert array.dtype == restored.state()[name].dtype
        assert np.array_equal(np.asarray(array), np.asarray(restored.state()[name])), name
    assert known.find(known.keys_V).tolist() == restored.find(known.keys_V).tolist()


def seconds_of_an_hour(already):
    """The least CPU time of four for an hour of the same 20,000 features in a vocabulary that knows so many others."""
    known = Vocabulary(VocabularyConfig(), 1)
    keys = np.random.default_rng(0).integers(1, 2**64 - 1, already + 20_000, dtype=np.uint64)
    known.observe(HOUR, features(keys[:already], slot_fields=[0]))
    hour = features(keys[already:], slot_fields=[0])
    best = np.inf
    for step in range(4):
        started = time.thread_time()
        known.admit(hour)
        known.observe(HOUR + step + 1, hour)
        best = min(best, time.thread_time() - started)
    return best


def test_the_cost_of_an_hour_hardly_grows_with_what_was_seen():
    """A hundred times as many features known make the same hour far less than a hundred times as dear."""
    assert seconds_of_an_hour(500_000) < 15 * seconds_of_an_hour(5_000)
