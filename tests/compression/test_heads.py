"""The choice of the head: expected sightings, worth of a sighting, and the limit that fits the bytes."""

import numpy as np
import pytest

from saec.compression.heads import KEPT, LEAST_WORTH, Candidates, Returns, Worth, limit, scores


def features(*told):
    """Candidates given as (field, frequency, age, whether it has a row)."""
    fields, frequency, ages, own = zip(*told, strict=True)
    return Candidates(np.array(fields), np.array(frequency, np.float32), np.array(ages), np.array(own, bool))


def known(count, field=0, frequency=1.0, age=5):
    """So many alike features with a row."""
    return features(*[(field, frequency, age, True)] * count)


def test_nothing_measured_expects_every_feature_once():
    """Before the first hour only the frequency within its class tells features apart, by less than a half octave."""
    expected_N = Returns.start(2).expected(features((0, 0, 1, True), (1, 7, 9, True), (1, 8, 200, False)))
    # 1 + 0 and 1 + 7 begin a class: 2^-1/4; 1 + 8 lies 0.3399 of a half octave into its class.
    assert expected_N == pytest.approx([2**-0.25, 2**-0.25, 2 ** (0.33985 / 2 - 0.25)])


def joined(*parts):
    """Some candidates after others."""
    names = ("fields_N", "frequency_N", "ages_N", "own_N")
    return Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def measured(*told, fields=1):
    """Returns after one hour: candidates, and the sightings of each of them."""
    candidates, sightings = zip(*told, strict=True)
    return Returns.start(fields).learned(joined(*candidates), np.repeat(sightings, [len(c.ages_N) for c in candidates]))


def test_returns_by_hand():
    """Four features of a class with eight sightings, beside six with none: (8 + mean 9/11) / (4 + 1)."""
    frequent, rare = known(4, frequency=7.0), known(6, frequency=0.0)
    returns = measured((frequent, 2), (rare, 0))
    mean = (8 + 1) / (10 + 1)
    assert returns.expected(frequent) == pytest.approx([(8 + mean) / 5 * 2**-0.25] * 4)
    assert returns.expected(rare) == pytest.approx([mean / 7 * 2**-0.25] * 6)


def test_newcomers_return_in_their_own_way():
    """What features with a row do says nothing of newcomers of the same field, frequency and age, nor of another field.

    Twelve sightings of three features with a row, none of five newcomers; nothing was measured of the second field.
    """
    own, newcomers = known(3, field=1), features(*[(1, 1.0, 5, False)] * 5)
    returns = measured((own, 4), (newcomers, 0), fields=3)
    assert returns.known_2FQA.sum((2, 3)).tolist() == [[0, 3, 0], [0, 5, 0]]
    assert returns.sighted_2FQA.sum((2, 3)).tolist() == [[0, 12, 0], [0, 0, 0]]
    assert returns.expected(own) == pytest.approx([(12 + 13 / 4) / 4 * 2**-0.25] * 3)
    assert returns.expected(newcomers) == pytest.approx([(0 + 1 / 6) / 6 * 2**-0.25] * 5)
    assert returns.expected(known(1, field=2)) == pytest.approx([2**-0.25])


def test_what_comes_back_is_expected_back():
    """By age and by field: yesterday's news are dead, readers of a month ago are not."""
    news, old_news = known(50, field=0, age=1), known(50, field=0, age=24)
    reader, old_reader = known(50, field=1, age=1), known(50, field=1, age=24)
    returns = measured((news, 4), (old_news, 0), (reader, 1), (old_reader, 1), fields=2)
    seen, old, read, old_read = (returns.expected(part)[0] for part in (news, old_news, reader, old_reader))
    assert seen > 3 * read
    assert old_read == read > 5 * old


@pytest.mark.parametrize(
    ("age", "alike", "other"), [(1, 1, 2), (2, 2, 1), (4, 6, 7), (13, 24, 12), (25, 48, 49), (97, 9999, 96)]
)
def test_classes_of_age(age, alike, other):
    """Hours since the last sighting fall into classes; the last one has no end."""
    returns = measured((known(1000, age=age), 9), (known(1000, age=other), 0))
    at_age, same, not_seen = (returns.expected(known(1, age=one))[0] for one in (age, alike, other))
    assert same == at_age > 100 * not_seen


@pytest.mark.parametrize("frequency", [0.0, 1e-30, 1.0, 4095.0, 1e7, 3e38])
def test_any_frequency_has_a_class(frequency):
    """Nothing seen for long, and what is seen all the time: expected is a number above 0, the same for equals."""
    both = known(2, frequency=frequency)
    expected_N = Returns.start(1).learned(both, np.array([3, 4])).expected(both)
    assert np.isfinite(expected_N).all()
    assert expected_N[0] == expected_N[1] > 0


def test_expected_rises_within_a_class():
    """Within a class of frequency sightings are proportional to one plus it, so that a limit falls between any two."""
    expected_N = Returns.start(1).expected(features(*[(0, value, 1, True) for value in (63.0, 70.0, 80.0, 89.0)]))
    assert expected_N / expected_N[0] == pytest.approx(np.array([64, 71, 81, 90]) / 64)


def test_returns_fade():
    """What was measured counts for two per cent less after each hour."""
    nobody, none = Candidates(*(array[:0] for array in vars(known(3)).values())), np.zeros(0, np.int64)
    returns = Returns.start(1).learned(known(3), np.array([1, 2, 3])).learned(nobody, none)
    assert returns.known_2FQA.sum() == pytest.approx(3 * KEPT)
    assert returns.sighted_2FQA.sum() == pytest.approx(6 * KEPT)


def test_worth_by_hand():
    """Saved over sightings, both leaning on the mean of everything: (11 + 0.001) / 99 nats."""
    worth = Worth.start(2).learned(np.array([[8.0, 2.0], [1.0, 0.0]]), np.array([[40.0, 50.0], [8.0, 0.0]]))
    mean = 11.001 / 99
    assert worth.of_sighting() == pytest.approx(np.array([[(8 + mean) / 41, (2 + mean) / 51], [(1 + mean) / 9, mean]]))


def test_worth_is_never_below_a_share_of_the_mean():
    """Codes that do harm keep a little worth, so that they can show another time; so do all of them together."""
    worth = Worth.start(2).learned(np.array([[50.0, -30.0], [0.0, 0.0]]), np.full((2, 2), 100.0))
    mean = 20.001 / 401
    assert worth.of_sighting()[0, 1] == pytest.approx(LEAST_WORTH * mean)
    assert (Worth.start(2).learned(np.full((2, 2), -5.0), np.full((2, 2), 100.0)).of_sighting() > 0).all()


def test_worth_fades():
    """An hour without rows leaves 98 per cent of what was measured."""
    worth = Worth.start(1).learned(np.array([[4.0], [2.0]]), np.array([[8.0], [1.0]]))
    faded = worth.learned(np.zeros((2, 1)), np.zeros((2, 1)))
    assert faded.saved_2F.ravel() == pytest.approx([4 * KEPT, 2 * KEPT])
    assert faded.sightings_2F.ravel() == pytest.approx([8 * KEPT, KEPT])


def test_scores_are_sightings_times_worth():
    """Newcomers by their own row of returns and of worth."""
    worth = Worth(np.array([[8.0, 2.0], [1.0, 4.0]]), np.full((2, 2), 10.0))
    some = features((0, 3.0, 1, True), (1, 3.0, 1, True), (0, 3.0, 1, False), (1, 3.0, 1, False))
    returns = Returns.start(2).learned(some, np.array([1, 1, 5, 5]))
    expected_N, value_2F = returns.expected(some), worth.of_sighting()
    assert expected_N[2] == expected_N[3] > expected_N[0] == expected_N[1]
    assert scores(some, returns, worth) == pytest.approx(expected_N * value_2F.ravel())


@pytest.mark.parametrize(
    ("count", "room", "wanted"),
    [(100, 40, 40), (10, 40, 10), (40, 40, 40), (41, 40, 40), (0, 40, 0), (5, 0, 0), (0, 0, 0)],
)
def test_heads_fill_their_room(count, room, wanted):
    """As many features as there is room for, or all."""
    scores_N = 1 + np.random.default_rng(0).permutation(count).astype(float)
    assert (scores_N > limit(scores_N, room)).sum() == wanted


def test_the_best_are_chosen():
    """The limit is the best score that is left out."""
    assert limit(np.array([5.0, 1.0, 4.0, 3.0]), 2) == 3.0
    assert limit(np.array([5.0, 1.0, np.inf, 3.0]), 1) == 5.0


@pytest.mark.parametrize("value", [0.0, 1.0, np.inf])
def test_ties_at_the_limit_stay_out(value):
    """Features that are all worth the same never overfill the room: where not all fit, none of them do."""
    assert limit(np.full(10, value), 6) == value
    assert limit(np.array([2.0, 1.0, 1.0, 0.5]), 2) == 1.0


def test_any_head_fits():
    """Whatever the scores, many of them alike, no head is larger than its room."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        scores_N = rng.integers(0, 9, rng.integers(0, 60)).astype(float)
        room = int(rng.integers(0, 80))
        assert (scores_N > limit(scores_N, room)).sum() <= room


def test_smaller_heads_are_parts_of_larger_ones():
    """So a trial of a smaller head only takes codes away."""
    scores_N = np.random.default_rng(2).exponential(size=100)
    limits = [limit(scores_N, room) for room in range(110, -1, -1)]
    assert limits == sorted(limits)
    assert limits[0] == 0.0 < limits[-1] == scores_N.max()
