"""The challenger: carried on from hour to hour, through codes, and the same from its files."""

import dataclasses

import numpy as np
import pytest

from saec.compress.artifact import write_artifact
from saec.compress.challenger import Challenger
from saec.compress.codebooks import Centroids, Codebooks, Succession
from saec.compress.codes import HourCodes, Standards, code_hour
from saec.serving import Model
from saec.serving.rounding import as_served
from saec.train.original import Original
from saec.train.tensors import load_network, network_arrays


def story(click_hours, config, hours=5):
    """Original and codes hour by hour: for each hour its rows, their codes and the original at the cut."""
    original, before = Original(config), Standards.start(3, config.model.width)
    for number in range(hours):
        hour = click_hours.first + number
        rows = click_hours.rows(hour)
        original.absorb()
        _, untouched = original.train(hour, rows, original.prepare(rows), 105)
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, 105, config.compression.ratio)
        before = codes.standards
        yield rows, codes, original


def last_hour(click_hours, config):
    """The challenger after five hours, with the last hour's rows and codes."""
    challenger = None
    for rows, codes, original in story(click_hours, config):
        if challenger is None:
            challenger = Challenger.start(original)
            challenger.retrain(codes, rows.labels_B, learn=False)
        else:
            challenger.absorb()
            challenger.retrain(codes, rows.labels_B)
    return challenger, rows, codes


def written(folder, challenger, codes):
    write_artifact(folder, challenger, codes.head_keys_H, codes.head_codes_H)
    return Model.read(folder)


def as_published(challenger):
    """Its network takes the numbers that are served: what is left between it and its files is not the network's."""
    network, precision = challenger.learner.network, challenger.config.compression.network_precision
    load_network(network, as_served(network_arrays(network), precision), "its files")
    return challenger


def state(challenger):
    return {name: np.array(array) for name, array in challenger.snapshot().arrays.items()}


def test_restored_every_hour_equals_staying_in_memory(click_hours):
    """Bit for bit: a challenger restored from its snapshot goes on as the one that never left the memory."""
    config, stayed, saved = click_hours.config(), None, {}
    for rows, codes, original in story(click_hours, config):
        if stayed is None:
            stayed, restored = Challenger.start(original), Challenger.start(original)
            stayed.retrain(codes, rows.labels_B, learn=False)
            restored.retrain(codes, rows.labels_B, learn=False)
        else:
            restored = Challenger.restore(config, saved, "saved")
            for twin in (stayed, restored):
                twin.absorb()
                twin.retrain(codes, rows.labels_B)
        saved = state(restored)
        assert {name: array.tobytes() for name, array in state(stayed).items()} == {
            name: array.tobytes() for name, array in saved.items()
        }


def test_the_first_hours_challenger_is_the_original(click_hours):
    """Where nothing has a code yet, it scores every row as the original does."""
    rows, codes, original = next(story(click_hours, click_hours.config()))
    challenger = Challenger.start(original)
    assert not challenger.retrain(codes, rows.labels_B, learn=False)
    found = challenger.score(np.concatenate([codes.lagged_BS, codes.fresh_BS]))
    np.testing.assert_allclose(found, original.score(original.prepare(rows)), rtol=1e-6)


def test_starting_takes_copies(click_hours):
    """Training the challenger does not reach the original it started from."""
    stories = story(click_hours, click_hours.config(), 2)
    rows, codes, original = next(stories)
    challenger = Challenger.start(original)
    scores = original.score(original.prepare(rows))
    challenger.retrain(codes, rows.labels_B)
    assert np.array_equal(original.score(original.prepare(rows)), scores)


def test_absorbing_leaves_nothing_pending(click_hours):
    """Gate rows are learnt once: a second call changes nothing."""
    challenger, _, _ = last_hour(click_hours, click_hours.config())
    before = state(challenger)
    challenger.absorb()
    once = state(challenger)
    challenger.absorb()
    assert len(challenger.pending_labels_B) == len(challenger.pending_codes_BS) == 0
    assert not np.array_equal(once["codebooks.vectors_TD"], before["codebooks.vectors_TD"])
    assert np.array_equal(state(challenger)["codebooks.vectors_TD"], once["codebooks.vectors_TD"])


def with_clusters(config, clusters=2):
    """A challenger with so many clusters a field, far from each other."""
    challenger = Challenger(config)
    centroids = Centroids.joined([3 * np.eye(clusters, 4, dtype=np.float32)] * 3)
    challenger.standards = dataclasses.replace(challenger.standards, centroids=centroids)
    challenger.codebooks = Codebooks.start(np.ones((3, 4), np.float32), centroids)
    return challenger


def codes_of(challenger, lagged_BS, fresh_BS):
    """An hour's codes by the challenger's own clusters, one feature in each of them, which keeps its code."""
    centroids = challenger.standards.centroids
    fields_H, clusters_H = np.divmod(np.arange(len(centroids.vectors_CD)), centroids.counts_F[0])
    codes_H = (2 + clusters_H).astype(np.int16)
    ones_H = np.ones(len(codes_H), np.float32)
    succession = Succession.of(centroids, centroids, codes_H, codes_H, fields_H, ones_H, centroids.vectors_CD)
    return HourCodes(
        challenger.standards, succession, lagged_BS, fresh_BS, np.zeros(fresh_BS.shape, np.int8),
        np.zeros(0, np.uint64), np.zeros(0, np.int16), 0.0, {},
    )


def test_each_row_is_learnt_through_the_codes_meant_for_it(click_hours, monkeypatch):
    """Train rows are learnt through the lagged codes, gate rows an hour later through the fresh ones; no other way."""
    learnt = []

    def note(self, codes_BS, labels_B):
        learnt.append((codes_BS, labels_B))

    monkeypatch.setattr(Challenger, "_fit", note)
    lagged, fresh = np.full((3, 5), 1, np.int16), np.full((2, 5), 2, np.int16)
    challenger = with_clusters(click_hours.config(training={"stretches": 3}))
    challenger.retrain(codes_of(challenger, lagged, fresh), np.array([1, 0, 1, 0, 0], np.uint8))
    challenger.absorb()
    assert [(codes_BS.tolist(), labels_B.tolist()) for codes_BS, labels_B in learnt] == [
        (lagged[:2].tolist(), [1, 0]),
        (lagged[2:].tolist(), [1]),
        (fresh.tolist(), [0, 0]),
    ]


def test_only_codewords_in_use_are_retrained(click_hours):
    """A pass moves the codewords its codes name, default and newcomers' among them, and no others."""
    challenger = with_clusters(click_hours.config())
    before = challenger.codebooks.vectors_TD.copy()
    challenger._fit(np.array([[2, 0, 1, -1, -1]] * 8, np.int16), np.ones(8, np.uint8))
    moved = np.flatnonzero((challenger.codebooks.vectors_TD != before).any(1))
    assert moved.tolist() == [2, 4, 9]
    assert np.flatnonzero(challenger.codebooks.squares_T).tolist() == [2, 4, 9]


LIVELY = {"batch_rows": 16, "table_learning_rate": 1.0, "dense_learning_rate": 0.02, "stretches": 4}
EMPTY_BS = np.zeros((0, 5), np.int16)


def told_by_first_field(count=320):
    """Codes and labels: the code of the first field says nearly all, that of the second one nothing."""
    rng = np.random.default_rng(0)
    codes_BS = np.full((count, 5), -1, np.int16)
    codes_BS[:, :2] = rng.integers(2, 4, (count, 2))
    labels_B = (rng.random(count) < np.where(codes_BS[:, 0] == 2, 0.9, 0.1)).astype(np.uint8)
    return codes_BS, labels_B


def test_harmful_retraining_is_dropped(click_hours):
    """When labels turn over before the last stretch, everything, optimiser and all, is as before the hour."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    challenger._fit(codes_BS[:32], labels_B[:32])  # so that the optimiser has something to lose
    before = state(challenger)
    turned_B = np.where(np.arange(320) < 240, labels_B, 1 - labels_B)
    assert not challenger._retrain(codes_BS, turned_B)
    assert {name: array.tobytes() for name, array in state(challenger).items()} == {
        name: array.tobytes() for name, array in before.items()
    }


def test_an_hour_whose_retraining_is_dropped_moves_on(click_hours):
    """The codewords still pass to the hour's clusters, and the gate rows still become pending."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    codes = codes_of(challenger, codes_BS, codes_BS[:7])
    wanted = challenger.codebooks.succeeded(codes.succession, codes.standards.centroids)
    turned_B = np.where(np.arange(320) < 240, labels_B, 1 - labels_B)
    assert not challenger.retrain(codes, np.append(turned_B, [1, 0, 1, 0, 1, 0, 1]).astype(np.uint8))
    assert np.array_equal(challenger.codebooks.vectors_TD, wanted.vectors_TD)
    assert challenger.pending_labels_B.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert np.array_equal(challenger.pending_codes_BS, codes_BS[:7])


def test_good_retraining_is_kept(click_hours):
    """When the last stretch is like those before it, all rows are learnt, each once, in order."""
    kept, plain = (with_clusters(click_hours.config(training=LIVELY)) for _ in range(2))
    codes_BS, labels_B = told_by_first_field()
    before_B = kept._losses(codes_BS, labels_B)
    assert kept._retrain(codes_BS, labels_B)
    for part in (slice(240), slice(240, None)):
        plain._fit(codes_BS[part], labels_B[part])
    assert np.array_equal(kept.codebooks.vectors_TD, plain.codebooks.vectors_TD)
    assert kept._losses(codes_BS, labels_B).mean() < before_B.mean() - 0.1


@pytest.mark.parametrize(("harm", "kept"), [([0.3, -0.1, -0.1, 0.0], True), ([0.2, 0.2, 0.1, 0.3], False),
                                            ([-1.0, 0.0, 0.0, 0.0], True), ([0.0, 0.0, 0.0, 0.0], True)])
def test_only_clear_harm_counts(click_hours, monkeypatch, harm, kept):
    """Harm within a standard error of the paired difference drops nothing: 0.025 against 0.095, 0.2 against 0.04."""
    challenger = with_clusters(click_hours.config(training=LIVELY))
    losses = iter([np.zeros(4), np.array(harm)])
    monkeypatch.setattr(Challenger, "_losses", lambda self, codes_BS, labels_B: next(losses))
    codes_BS, labels_B = told_by_first_field(16)
    assert challenger._retrain(codes_BS, labels_B) == kept


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hours_of_fewer_rows_than_stretches_are_learnt(click_hours, count):
    """With no last stretch to tell harm by, or with one row of it, what there is is learnt."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    before = challenger.codebooks.vectors_TD
    assert challenger.retrain(codes_of(challenger, codes_BS[:count], codes_BS[:0]), labels_B[:count])
    assert np.array_equal(challenger.codebooks.vectors_TD, before) == (count == 0)


def measured(click_hours, codes_BS, labels_B, training=LIVELY):
    """What a challenger that learnt some rows measures on the next ones, half of all."""
    challenger, half = with_clusters(click_hours.config(training=training)), len(labels_B) // 2
    for _ in range(3):
        challenger._fit(codes_BS[:half], labels_B[:half])
    challenger.retrain(codes_of(challenger, EMPTY_BS, codes_BS[half:]), labels_B[half:])
    before = challenger.codebooks.vectors_TD
    losses_B = challenger._losses(codes_BS[half:], labels_B[half:])
    default_BS = np.where(np.arange(5) == 0, np.minimum(codes_BS, 0), codes_BS)[half:]
    added_B = challenger._losses(default_BS, labels_B[half:]) - losses_B
    challenger.absorb()
    assert not np.array_equal(challenger.codebooks.vectors_TD, before)
    return challenger.standards.worth, added_B.sum()


def test_worth_is_the_loss_that_codes_save(click_hours):
    """A field whose codes tell the label is worth more than one of noise; one without codes is worth nothing."""
    worth, added = measured(click_hours, *told_by_first_field())
    assert worth.saved_2F[0, 0] == pytest.approx(added)
    assert worth.saved_2F[0, 0] > 4 * abs(worth.saved_2F[0, 1])
    assert worth.saved_2F[0, 2] == 0.0
    assert worth.sightings_2F.tolist() == [[160, 160, 0], [0, 0, 0]]
    assert np.argmax(worth.of_sighting()[0]) == 0


def test_newcomers_have_a_worth_of_their_own(click_hours):
    """Their codes count in the second row, clusters in the first: here every other row is of a newcomer."""
    codes_BS, labels_B = told_by_first_field()
    codes_BS[codes_BS[:, 0] == 2, 0] = 1  # newcomers click
    worth, _ = measured(click_hours, codes_BS, labels_B)
    assert worth.saved_2F[1, 0] > 5.0
    assert worth.sightings_2F[:, 0].tolist() == [(codes_BS[160:, 0] == 3).sum(), (codes_BS[160:, 0] == 1).sum()]
    assert worth.sightings_2F[:, 1].tolist() == [160, 0]


def test_worth_counts_every_cell_of_a_list(click_hours):
    """A row with two tags has two sightings; tags on the default codeword and padding are none."""
    codes_BS, labels_B = told_by_first_field(64)
    codes_BS[:, 2:] = [2, 3, 0]
    worth, _ = measured(click_hours, codes_BS, labels_B)
    assert worth.sightings_2F.tolist() == [[32, 32, 64], [0, 0, 0]]


def test_worth_is_measured_on_a_sample_of_many_rows(click_hours):
    """Of 1,600 pending rows every fourth is measured, for no more than 512 may be."""
    worth, _ = measured(click_hours, *told_by_first_field(3200))
    assert worth.sightings_2F.tolist() == [[400, 400, 0], [0, 0, 0]]


def test_worth_is_carried_on(click_hours):
    """What was learnt of worth stays with the challenger through retraining and its snapshot, and fades."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    for wanted in (0.0, 320.0, 320 * 0.98 + 320):
        codes = codes_of(challenger, EMPTY_BS, codes_BS)  # made before the gate rows of the hour before are learnt
        challenger.absorb()
        challenger.retrain(codes, labels_B)
        assert challenger.standards.worth.sightings_2F[0, 0] == pytest.approx(wanted)
        again = Challenger.restore(challenger.config, state(challenger), "saved")
        assert np.array_equal(again.standards.worth.saved_2F, challenger.standards.worth.saved_2F)
        assert again.standards.limits == challenger.standards.limits


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("int8", 2e-2)])
def test_its_files_score_as_it_does(click_hours, tmp_path, precision, tolerance):
    """The artifact read back gives every row the score of its fresh codes, but for the rounding of the codebooks."""
    compression = {"codewords": 6, "ratio": 4.0, "fingerprint_bits": 16, "codebook_precision": precision}
    challenger, rows, codes = last_hour(click_hours, click_hours.config(compression=compression))
    artifact = written(tmp_path, challenger, codes)
    assert np.array_equal(artifact.codes(rows.keys_BS[105:]), codes.fresh_BS)
    found, wanted = artifact.score_keys(rows.keys_BS[105:]), as_published(challenger).score(codes.fresh_BS)
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    assert np.ptp(wanted) > 10 * tolerance


def test_unknown_features_are_scored_as_in_training(click_hours, tmp_path):
    """A row of features never seen falls on the default codewords, padding on nothing at all."""
    challenger, _, codes = last_hour(click_hours, click_hours.config())
    artifact = written(tmp_path, challenger, codes)
    unknown_BS = np.arange(10**12, 10**12 + 50, dtype=np.uint64).reshape(10, 5)
    unknown_BS[:, 3:] = 0
    wanted_BS = np.repeat([[0, 0, 0, -1, -1]], 10, axis=0)
    assert artifact.codes(unknown_BS).tolist() == wanted_BS.tolist()
    wanted_B = as_published(challenger).score(wanted_BS.astype(np.int16))
    np.testing.assert_allclose(artifact.score_keys(unknown_BS), wanted_B, atol=1e-3)


def test_a_code_beyond_its_fields_codebook_is_unknown(click_hours, tmp_path):
    """Where the fingerprint lets an unknown key through, it gets a codeword of its own field or the default one."""
    challenger, _, codes = last_hour(click_hours, click_hours.config())
    artifact = written(tmp_path, challenger, codes)

    class Careless:
        """An index that takes every key for a known one, with the key itself as its code (the index holds one less)."""

        def lookup(self, keys_BS):
            return keys_BS.astype(np.int32) - 1

    artifact.index, artifact.counts_F = Careless(), np.array([2, 4, 3])
    assert artifact.codes(np.array([[1, 5, 3, 5, 0], [4, 6, 255, 2, 1]], np.uint64)).tolist() == [
        [1, 5, 3, 0, -1],
        [0, 0, 0, 2, 1],
    ]


def test_rows_are_scored_alike_in_any_company(click_hours, tmp_path):
    """Row by row, or all at once: the same scores."""
    challenger, rows, codes = last_hour(click_hours, click_hours.config())
    artifact = written(tmp_path, challenger, codes)
    alone = np.concatenate([artifact.score_keys(row[None]) for row in rows.keys_BS[:20]])
    np.testing.assert_allclose(alone, artifact.score_keys(rows.keys_BS)[:20], rtol=1e-6)
    assert artifact.score_keys(rows.keys_BS[:0]).shape == (0,)
