"""Choosing the head by bundles gives the same result as examining every feature, to the byte."""

import numpy as np
import pytest

import saec.data.cohorts
import saec.data.paged
from saec.compression.heads import Candidates, Returns, Worth, scores
from saec.compression.moments import Choice, HourPast
from saec.data.cohorts import Cohorts
from saec.data.paged import Paged
from saec.data.rows import EncodedRows
from saec.data.vocabulary import Vocabulary
from saec.hours import Hour
from saec.train.original import Original

FIRST = Hour.parse("2017-10-01T03")
PEOPLE = 400


def past_of(click_hours, since, dropped, monkeypatch, shards=1):
    """An hour of a state whose features were seen up to thirty hours ago, and that was written `since` hours before.

    A few features were forgotten since, and stand where they stood.
    """
    monkeypatch.setattr(saec.data.paged, "CHUNK", 64)
    monkeypatch.setattr(saec.data.cohorts, "CHUNK", 64)
    monkeypatch.setattr(saec.data.cohorts, "_DROPPED", np.uint32(dropped))
    original = Original(click_hours.config(vocabulary={"half_life": 9.0, "admit_after": 2}))
    rng = np.random.default_rng(0)
    hours = 30
    for number in range(hours + 1):
        hour = FIRST + number
        if number == 9:
            original.reshard(shards)
        if number == hours and since:
            forget(original, hour)
        users = np.minimum(rng.geometric(0.02, 60) * (1 + number % 3), PEOPLE)
        rows = rows_of(click_hours, hour, users)
        at_cut = original.learn(hour, rows, original.prepare(hour, rows), 40)
        if number == hours - since:
            snapshot = original.snapshot()
            for place, shard in enumerate(snapshot.shards or [snapshot]):
                original.rebase(place, {name: np.asarray(array) for name, array in shard.whole().items()})
    return HourPast(original, hour, rows.keys_BS, 40, at_cut)


def forget(original, hour):
    """Forget the features that are unseen for longest."""
    knobs = original.vocabulary._config
    original.vocabulary._config = knobs.model_copy(update={"evict_after": 15, "evict_floor": 1e9})
    assert len(original.vocabulary.evict(hour)[0]) > 3
    original.vocabulary._config = knobs


@pytest.fixture(
    scope="module",
    params=[(0, 1), (3, 1), (0, 3), (3, 3)],
    ids=["in its newest hour", "three hours on", "in its newest hour, three shards", "three hours on, three shards"],
)
def past(request, click_hours):
    """Such an hour, of so few features that their bundles are made wide; not to be changed."""
    since, shards = request.param
    with pytest.MonkeyPatch.context() as patch:
        yield past_of(click_hours, since, 22, patch, shards)


def rows_of(click_hours, hour, users):
    """One user a row, and an item that is new every third hour."""
    keys_BS = np.zeros((len(users), 5), np.uint64)
    keys_BS[:, 0] = click_hours.keys(0, users)
    keys_BS[:, 1] = click_hours.keys(1, hour.index // 3 * 1000 + users % 5)
    return EncodedRows((users % 2).astype(np.uint8), hour.start_ms + np.arange(len(users)), keys_BS)


def each(past, hour):
    """Every feature of the vocabulary as of an hour."""
    vocabulary = past.original.vocabulary
    return vocabulary.known(hour, vocabulary.places())


def test_most_is_told_of_by_bundles(past):
    """Otherwise the other tests here would show nothing."""
    bundles = past.moment(end=True).bundles
    assert 0 < np.count_nonzero(bundles.sizes_G) < bundles.sizes_G.sum() / 1.25
    assert not bundles.alike_G.all()
    assert bundles.sizes_G.sum() > len(past.moment(end=True).seen)


def test_what_is_cold_is_not_gone_over(click_hours, monkeypatch):
    """Counting and a small head read a part of the features that nothing changed of, and none of the whole columns."""
    past, read = past_of(click_hours, 3, 16, monkeypatch), []
    members = Cohorts.members
    monkeypatch.setattr(Cohorts, "members", lambda self, bundles: read.append(members(self, bundles)) or read[-1])
    for way in (Paged, Vocabulary):
        monkeypatch.setattr(way, "chunks", None)
    past.returned(Returns.start(3))
    moment = past.moment(end=True)
    moment.best(lambda candidates: scores(candidates, Returns.start(3), Worth.start(3)), 10, [])
    assert 0 < sum(len(of_M) for of_M, _ in read) < moment.bundles.sizes_G.sum() / 2


def test_returns_are_counted_as_one_by_one(past):
    """Features with a row, and newcomers of the hour before, as they were before the hour."""
    known, hour, vocabulary = each(past, past.hour), past.hour, past.original.vocabulary
    ids_U = np.searchsorted(vocabulary.places(), vocabulary.find(past.features.keys_U))
    known.frequency_M[ids_U], known.last_seen_M[ids_U] = past.at_cut.frequency_U, past.at_cut.last_seen_U
    there_M = known.last_seen_M > 0
    own_M = known.rows_M >= 0
    own_M[ids_U] &= ~past.at_cut.given_U
    newest = known.last_seen_M[known.last_seen_M < hour.index].max()
    sightings_M = np.zeros(len(own_M), np.int64)
    sightings_M[ids_U] = past.features.counts_U
    chosen = there_M & (own_M | (known.last_seen_M == newest))
    assert (chosen & ~own_M).any()
    candidates = Candidates(known.fields_M, known.frequency_M, hour.index - known.last_seen_M, own_M)
    before = Returns(*np.random.default_rng(1).random((2, *Returns.start(3).known_2FQA.shape)))
    wanted = before.learned(candidates[chosen], sightings_M[chosen])
    found = past.returned(before)
    assert found.known_2FQA.tobytes() == wanted.known_2FQA.tobytes()
    assert found.sighted_2FQA.tobytes() == wanted.sighted_2FQA.tobytes()


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("trained", [False, True], ids=["nothing measured", "measured"])
def test_the_best_are_those_of_all(past, end, trained):
    """For heads of every size: who is in it, in which order, what is known of each, and the limits."""
    moment = past.moment(end=end)
    rng, shape = np.random.default_rng(2), Returns.start(3).known_2FQA.shape
    returns = Returns(rng.integers(1, 9, shape) * 1.0, rng.random(shape)) if trained else Returns.start(3)
    worth = Worth(rng.random((2, 3)), np.full((2, 3), 5.0)) if trained else Worth.start(3)

    def scored(candidates):
        direct_N = candidates.own_N & (candidates.fields_N == 1)
        return np.where(direct_N & trained, np.inf, scores(candidates, returns, worth))

    everything = moment.everything
    assert len(np.unique(everything.keys_N)) == len(everything) == moment.own_F.sum() + np.sum(everything.rows_N < 0)
    scores_N = np.sort(scored(everything.candidates))[::-1]
    for count in range(0, len(everything) + 2, 7):
        limits = [float(scores_N[room]) if room < len(scores_N) else 0.0 for room in (count, count // 2, count // 3)]
        found, trials = moment.best(scored, count, [count // 2, count // 3])
        assert trials == limits[1:]
        wanted = everything[scored(everything.candidates) > limits[0]]
        wanted = wanted[np.lexsort((wanted.keys_N, wanted.candidates.fields_N))]
        same(found, wanted)


def same(found, wanted):
    """Two choices, byte for byte."""
    for name in ("keys_N", "rows_N"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    for name, array in vars(wanted.candidates).items():
        assert getattr(found.candidates, name).tobytes() == array.tobytes(), name


def test_everything_is_what_the_vocabulary_knows(past):
    """All features with a row as of the hour to come, once each, as they are known one by one."""
    moment = past.moment(end=True)
    own = moment.everything[moment.everything.candidates.own_N]
    known = each(past, moment.to_come)
    wanted = Choice.of(known, moment.to_come, known.rows_M >= 0)[known.rows_M >= 0]
    same(own[np.argsort(own.keys_N)], wanted[np.argsort(wanted.keys_N)])
