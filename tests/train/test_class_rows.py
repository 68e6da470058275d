"""Class rows: what features of a field share that are of like frequency and age, added to their own rows."""

import numpy as np
import pytest
import torch

from saec.compression.moments import HourPast
from saec.config import ModelConfig, TrainingConfig
from saec.data.rows import EncodedRows
from saec.errors import IntegrityError
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.original import Original


def do_hour(original, rows, hour, cut=100):
    """An hour; returns what it was prepared as, its scores, and what the model was at the cut."""
    prepared = original.prepare(hour, rows)
    scores_B = original.score(prepared)
    return prepared, scores_B, original.learn(hour, rows, prepared, cut)


def a_working_set(vectors_UD):
    return WorkingSet(np.arange(len(vectors_UD)), vectors_UD, torch.zeros(len(vectors_UD)))


@pytest.mark.parametrize(("slot_fields", "padded"), [((0, 1), []), ((0, 1, 1), [2])])
def test_added_vectors_are_trained_as_the_sum_they_make(slot_fields, padded):
    """In one batch, both parts of a sum move as the sum would, had it been a vector of its own; so does the network."""
    slots, pooling = len(slot_fields), Pooling.of(slot_fields)
    model = ModelConfig(width=4, hidden=[5], cross_rank=2)
    places_BS = torch.arange(6 * slots).view(6, slots)
    places_BS[::2, padded] = -1
    added_BS = torch.where(places_BS < 0, -1, places_BS + 6 * slots)
    vectors_UD = torch.randn(12 * slots, 4, generator=torch.Generator().manual_seed(1))
    sums_UD = vectors_UD[: 6 * slots] + vectors_UD[6 * slots :]
    labels_B = np.array([0, 1, 1, 0, 1, 0], np.uint8)
    apart, whole = a_working_set(vectors_UD.clone()), a_working_set(sums_UD.clone())
    learners = [Learner(build_network(model, 2, seed=3), pooling, TrainingConfig()) for _ in range(2)]
    np.testing.assert_array_equal(
        learners[0].score(apart.vectors_UD, places_BS, added_BS), learners[1].score(whole.vectors_UD, places_BS)
    )
    learners[0].fit(apart, places_BS, labels_B, added_BS=added_BS)
    learners[1].fit(whole, places_BS, labels_B)
    moved_UD = whole.vectors_UD - sums_UD
    assert moved_UD.abs().sum() > 0
    for part in (slice(0, 6 * slots), slice(6 * slots, None)):
        torch.testing.assert_close((apart.vectors_UD - vectors_UD)[part], moved_UD)
        torch.testing.assert_close(apart.squares_U[part], whole.squares_U)
    for ours, theirs in zip(learners[0].network.parameters(), learners[1].network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_added_places_follow_the_batches():
    """Rows of the second and of the last, ragged batch are trained and scored with their own added vectors."""
    learner = Learner(
        build_network(ModelConfig(width=4, hidden=[5]), 1, seed=3), Pooling.of((0,)), TrainingConfig(batch_rows=4)
    )
    places_BS, added_BS = torch.zeros((11, 1), dtype=torch.int64), torch.arange(1, 12)[:, None]
    working = a_working_set(torch.randn(12, 4, generator=torch.Generator().manual_seed(1)))
    learner.fit(working, places_BS, np.ones(11, np.uint8), added_BS=added_BS)
    assert (working.squares_U > 0).all()
    assert len(np.unique(learner.score(working.vectors_UD, places_BS, added_BS))) == 11


def test_who_was_here_an_hour_ago_is_told_from_who_is_new(click_hours):
    """Users that came in the hour before click, all others do not; none has a row, and yet they are told apart."""
    original = Original(
        click_hours.config(vocabulary={"admit_after": 10**6}, training={"batch_rows": 16, "table_learning_rate": 1.0})
    )
    came_before_B = np.arange(120) % 2 == 1
    for number in range(12):
        hour = click_hours.first + number
        user_B = 60 * (number - came_before_B) + np.arange(120) // 2
        keys_BS = np.zeros((120, 5), np.uint64)
        keys_BS[:, :3] = np.column_stack([click_hours.keys(field, user_B * (field == 0)) for field in range(3)])
        rows = EncodedRows(came_before_B.astype(np.uint8), hour.start_ms + np.arange(120), keys_BS)
        _, scores_B, _ = do_hour(original, rows, hour)
    assert original.vocabulary.admitted == 0
    assert scores_B[came_before_B].min() > scores_B[~came_before_B].max()


@pytest.mark.parametrize("end", [True, False])
def test_codes_are_taken_of_the_vectors_of_the_hour_to_come(click_hours, end):
    """A feature is clustered as the row it would be scored with, its class row of the next hour added."""
    original = Original(click_hours.config(vocabulary={"admit_after": 2}))
    twin = Original(original.config)
    for number in range(4):
        hour, rows = click_hours.first + number, click_hours.rows(click_hours.first + number)
        cut = 100 if number == 3 else 150
        *_, at_cut = do_hour(original, rows, hour, cut)
        seen = rows if end else EncodedRows(rows.labels_B[:cut], rows.times_B[:cut], rows.keys_BS[:cut])
        do_hour(twin, seen, hour, min(cut, len(seen)))
    moment = HourPast(original, hour, rows.keys_BS, cut, at_cut).moment(end=end)
    prepared = twin.prepare(hour + 1, click_hours.rows(hour + 1))
    scored_with = {}
    for key, place, added in zip(
        *(
            part.ravel().tolist()
            for part in (click_hours.rows(hour + 1).keys_BS, prepared.places_BS.numpy(), prepared.classes_BS.numpy())
        ),
        strict=True,
    ):
        if place >= 0 and prepared.working.rows_U[place] >= twin.vocabulary.shared:
            scored_with[key] = (prepared.working.vectors_UD[place] + prepared.working.vectors_UD[added]).numpy()
    own = moment.everything[moment.everything.candidates.own_N]
    found = dict(zip(own.keys_N.tolist(), moment.vectors(own), strict=True))
    common = found.keys() & scored_with.keys() & set(seen.keys_BS[:cut].ravel().tolist())
    assert len(common) > 10
    compared = [
        key
        for key in common
        if not at_cut.given_U[np.searchsorted(np.unique(rows.keys_BS[rows.keys_BS > 0]), np.uint64(key))]
    ]
    for key in compared:
        np.testing.assert_allclose(found[key], scored_with[key], rtol=1e-5, atol=1e-7)
    assert compared


def test_a_checkpoint_with_other_class_rows_is_refused(click_hours):
    """A table that lacks rows its vocabulary counts on would give features the vectors of others."""
    original = Original(click_hours.config())
    do_hour(original, click_hours.rows(click_hours.first), click_hours.first)
    arrays = original.snapshot().arrays
    arrays |= {name: np.asarray(arrays[name])[3:] for name in ("table.vectors_VD", "table.squares_V")}
    with pytest.raises(IntegrityError, match=r"X has a table of .* start the pipeline afresh"):
        Original.restore(original.config, arrays, "X")
