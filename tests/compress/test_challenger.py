"""The challenger: carried on from hour to hour, through codes, and the same from its files."""

import dataclasses

import numpy as np
import pytest

from saec.compress.artifact import Artifact, write_artifact
from saec.compress.challenger import Challenger
from saec.compress.codebooks import Centroids, Codebooks, Succession
from saec.compress.codes import HourCodes, code_hour
from saec.train.original import Original


def story(click_hours, config, hours=5):
    """Original and codes hour by hour: for each hour its rows, their codes and the original at the cut."""
    original, before = Original(config), Centroids.empty(3, config.model.width)
    for number in range(hours):
        hour = click_hours.first + number
        rows = click_hours.rows(hour)
        original.absorb()
        _, untouched = original.train(hour, rows, original.prepare(rows), 105)
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, 105)
        before = codes.centroids
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
    write_artifact(folder, challenger, codes.head_keys_N, codes.head_codes_N)
    return Artifact.read(folder)


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
    done = challenger.retrain(codes, rows.labels_B, learn=False)
    assert done.rows == 0
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


def test_each_row_is_learnt_through_the_codes_meant_for_it(click_hours, monkeypatch):
    """Train rows are learnt through the lagged codes, gate rows an hour later through the fresh ones; no other way."""
    config, learnt = click_hours.config(), []

    def note(self, codes_BS, labels_B):
        learnt.append((codes_BS, labels_B))

    monkeypatch.setattr(Challenger, "_fit", note)
    lagged, fresh = np.full((3, 5), 1, np.int16), np.full((2, 5), 2, np.int16)
    centroids = Centroids.joined([np.eye(2, 4, dtype=np.float32)] * 3)
    challenger = Challenger(config)
    nothing = (np.zeros(0, np.uint8), np.zeros(0, np.uint8), np.zeros(0, np.int64))
    succession = Succession.of(
        challenger.centroids, centroids, *nothing, np.zeros(0, np.float32), np.zeros((0, 4), np.float32)
    )
    codes = HourCodes(centroids, succession, lagged, fresh, np.zeros(0, np.uint64), np.zeros(0, np.uint8), 0.0, 1.0)
    challenger.retrain(codes, np.array([1, 0, 1, 0, 0], np.uint8))
    challenger.absorb()
    assert [(codes_BS.tolist(), labels_B.tolist()) for codes_BS, labels_B in learnt] == [
        (lagged.tolist(), [1, 0, 1]),
        (fresh.tolist(), [0, 0]),
    ]


def test_only_codewords_in_use_are_retrained(click_hours):
    """A pass moves the codewords its codes name, the default codewords among them, and no others."""
    challenger = Challenger(click_hours.config())
    challenger.centroids = Centroids.joined([np.eye(2, 4, dtype=np.float32)] * 3)
    challenger.codebooks = Codebooks.start(np.ones((3, 4), np.float32), challenger.centroids)
    before = challenger.codebooks.vectors_TD.copy()
    challenger._fit(np.array([[2, 0, 1, -1, -1]] * 8, np.int16), np.ones(8, np.uint8))
    moved = np.flatnonzero((challenger.codebooks.vectors_TD != before).any(1))
    assert moved.tolist() == [2, 3, 7]
    assert np.flatnonzero(challenger.codebooks.squares_T).tolist() == [2, 3, 7]


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("int8", 2e-2)])
def test_its_files_score_as_it_does(click_hours, tmp_path, precision, tolerance):
    """The artifact read back gives every row the score of its fresh codes, up to the rounding of the codebooks."""
    compression = {"codewords": 6, "head_frequency": 3.0, "fingerprint_bits": 16, "codebook_precision": precision}
    challenger, rows, codes = last_hour(click_hours, click_hours.config(compression=compression))
    artifact = written(tmp_path, challenger, codes)
    assert np.array_equal(artifact.codes(rows.keys_BS[105:]), codes.fresh_BS)
    found, wanted = artifact.score(rows.keys_BS[105:]), challenger.score(codes.fresh_BS)
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
    np.testing.assert_allclose(artifact.score(unknown_BS), challenger.score(wanted_BS.astype(np.int16)), atol=1e-3)


def test_a_code_beyond_its_fields_codebook_is_unknown(click_hours, tmp_path):
    """Where the fingerprint lets an unknown key through, it gets a codeword of its own field or the default one."""
    challenger, _, codes = last_hour(click_hours, click_hours.config())
    artifact = written(tmp_path, challenger, codes)

    class Careless:
        """An index that takes every key for a known one, with the key itself as its code."""

        def lookup(self, keys_BS):
            return keys_BS.astype(np.int32)

    artifact = dataclasses.replace(artifact, index=Careless(), counts_F=np.array([2, 4, 3]))
    assert artifact.codes(np.array([[1, 4, 3, 4, 0], [3, 5, 255, 2, 1]], np.uint64)).tolist() == [
        [1, 4, 3, 0, -1],
        [0, 0, 0, 2, 1],
    ]


def test_rows_are_scored_alike_in_any_company(click_hours, tmp_path):
    """Row by row, or all at once: the same scores."""
    challenger, rows, codes = last_hour(click_hours, click_hours.config())
    artifact = written(tmp_path, challenger, codes)
    alone = np.concatenate([artifact.score(row[None]) for row in rows.keys_BS[:20]])
    np.testing.assert_allclose(alone, artifact.score(rows.keys_BS)[:20], rtol=1e-6)
    assert artifact.score(rows.keys_BS[:0]).shape == (0,)
