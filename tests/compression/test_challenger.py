"""The challenger: it continues from hour to hour, learns through codes, and is the same from its files."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from saec.compression.auto import Auto
from saec.compression.challenger import MEASURED_ROWS, Challenger
from saec.compression.codebooks import Centroids, Codebooks
from saec.compression.places import CLUSTERS, DEFAULT, NEWCOMER
from saec.gate.metrics import auc, row_losses
from saec.serving import Model
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, RECORDED, SCHEMA
from saec.train.learner import Learner
from saec.train.original import Original

CUT = 105


def state(challenger):
    return {name: np.array(array) for name, array in challenger.snapshot().arrays.items()}


def same(first, second):
    assert first.keys() == second.keys()
    assert not {name for name, array in first.items() if array.tobytes() != second[name].tobytes()}


def hours(click_hours, count, first=0):
    return [(hour, click_hours.rows(hour)) for hour in (click_hours.first + first + n for n in range(count))]


@pytest.mark.parametrize("ratio", [pytest.param(4.0, marks=pytest.mark.slow), "auto"])  # `auto` keeps more
def test_restored_every_hour_equals_staying_in_memory(click_hours, hourly, ratio):
    """Bit for bit: a challenger restored from its snapshot goes on as the one that never left the memory."""
    config = click_hours.config(compression={"codewords": 6, "ratio": ratio, "fingerprint_bits": 4})
    stayed, restored = hourly(config), hourly(config)
    for hour, rows in hours(click_hours, 5):
        for twin in (stayed, restored):
            twin.do(hour, rows)
        saved = state(restored.challenger)
        same(saved, state(stayed.challenger))
        restored.challenger = Challenger.restore(config, saved, "saved")
        same(state(restored.challenger), saved)
        assert restored.challenger.files == stayed.challenger.files
        assert sorted(restored.challenger.files) == sorted([CODEBOOKS, INDEX, NETWORK, SCHEMA])


def test_the_challenger_starts_as_the_original_does(click_hours):
    """The same network, and both codewords of a field at the original's default row, not learnt yet."""
    challenger, original = Challenger(click_hours.config()), Original(click_hours.config())
    ours, theirs = (model.learner.network.parameters() for model in (challenger, original))
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    for code in (DEFAULT, NEWCOMER):
        assert np.array_equal(challenger.codebooks.vectors_TD[code::2], original.table.vectors_VD[:3])
    assert not challenger.codebooks.squares_T.any()


def test_before_anything_is_admitted_both_learn_the_same(click_hours, hourly, monkeypatch):
    """Where class rows, which the original alone has, are left out, both score alike, at the start and at the cut."""
    score, fit = Learner.score, Learner.fit
    monkeypatch.setattr(Learner, "score", lambda self, *given: score(self, *given[:2]))
    monkeypatch.setattr(Learner, "fit", lambda self, *given, **told: fit(self, *given, **told | {"added_BS": None}))
    made = hourly(click_hours.config(training={"batch_rows": 32}))
    rows = click_hours.rows(click_hours.first)
    made.meet(click_hours.first, rows)
    assert np.array_equal(made.challenger.score(made.codes_BS), made.scores_B)
    made.challenger.learn(made.codes_BS[:CUT], rows.labels_B[:CUT])
    np.testing.assert_allclose(made.challenger.score(made.codes_BS[CUT:]), made.at_cut.scores_G, rtol=1e-6)
    made.challenger.learn(made.codes_BS[CUT:], rows.labels_B[CUT:])
    codebooks, table = made.challenger.codebooks, made.original.table
    np.testing.assert_allclose(codebooks.vectors_TD[::2], table.vectors_VD[:3], rtol=1e-5)
    np.testing.assert_allclose(codebooks.squares_T[::2], table.squares_V[:3], rtol=1e-5)
    assert not np.allclose(made.challenger.score(made.codes_BS), made.scores_B)


def test_before_the_first_version_all_codes_are_default(click_hours):
    """Padding stays padding; keys of any shape, fields told or not."""
    challenger = Challenger(click_hours.config())
    keys_BS = click_hours.rows(click_hours.first).keys_BS
    assert challenger.version is None
    assert np.array_equal(challenger.codes(keys_BS), np.where(keys_BS == 0, -1, DEFAULT))
    assert challenger.codes(np.array([5, 0], np.uint64), np.array([1, 2])).tolist() == [DEFAULT, -1]


def test_codes_are_those_of_its_files(click_hours, hourly, tmp_path):
    """Whoever reads the version's files gets the same codes, false accepts among them; by slot or by field."""
    made = hourly(click_hours.config(compression={"codewords": 6, "ratio": 4.0, "fingerprint_bits": 2}), 4)
    rows = click_hours.rows(click_hours.first + 4)
    unknown_BS = np.random.default_rng(0).integers(1, 2**63, (200, 5), dtype=np.uint64)
    for keys_BS in (rows.keys_BS, unknown_BS):
        wanted_BS = Model.read(tmp_path / "version").codes(keys_BS)
        assert np.array_equal(made.challenger.codes(keys_BS), wanted_BS)
        for slot, field in enumerate(made.config.slot_fields):
            fields_B = np.full(len(keys_BS), field)
            assert np.array_equal(made.challenger.codes(keys_BS[:, slot], fields_B), wanted_BS[:, slot])
    assert 0.1 < (wanted_BS > 0).mean() < 0.4, "one unknown feature in four"


def test_moved_on_shares_the_network_and_leaves_the_old_codebooks(click_hours, hourly):
    """The one it was moved from goes on learning by its own clusters; what it learns reaches the network of both."""
    made = hourly(click_hours.config(), 3)
    ((hour, rows),) = hours(click_hours, 1, 3)
    made.meet(hour, rows)
    challenger, books, standards = made.challenger, made.challenger.codebooks, made.challenger.standards
    before = books.vectors_TD.copy()
    moved = challenger.moved_on(made.candidate)
    assert moved.learner is challenger.learner
    assert challenger.codebooks is books
    assert challenger.standards is standards
    assert np.array_equal(books.vectors_TD, before)
    assert moved.standards is made.candidate.standards
    wanted = books.succeeded(made.candidate.succession, made.candidate.standards.centroids)
    assert np.array_equal(moved.codebooks.vectors_TD, wanted.vectors_TD)
    assert np.array_equal(moved.codebooks.squares_T, wanted.squares_T)
    challenger.learn(made.codes_BS, rows.labels_B)
    assert np.array_equal(moved.codebooks.vectors_TD, wanted.vectors_TD)
    assert not np.array_equal(challenger.codebooks.vectors_TD, before)
    assert np.array_equal(books.vectors_TD, before), "learning makes new codebooks"


def stored(files):
    """A stored version of such files: nothing but its manifest counts."""
    entries = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    version = Model.__new__(Model)
    version.manifest = {"files": entries}
    return version


def test_a_challenger_knows_the_version_made_of_it_by_its_bytes(click_hours, hourly):
    """All of its files as they are, beside any others; one byte off in any of them is another version."""
    made = hourly(click_hours.config(), 2)
    files, challenger = made.challenger.files, made.challenger
    assert challenger.made(stored(files))
    assert challenger.made(stored(files | {RECORDED: b"rows"}))
    for name, data in files.items():
        assert not challenger.made(stored(files | {name: data[:-1] + bytes([data[-1] ^ 1])}))
        assert not challenger.made(stored({other: data for other, data in files.items() if other != name}))
    assert not Challenger(made.config).made(stored(files))
    assert not Challenger(made.config).made(stored({}))


def with_clusters(config, clusters=2):
    """A challenger with so many clusters a field, far from each other."""
    challenger = Challenger(config)
    centroids = Centroids.joined([3 * np.eye(clusters, 4, dtype=np.float32)] * 3)
    challenger.standards = dataclasses.replace(challenger.standards, centroids=centroids)
    challenger.codebooks = Codebooks.start(np.ones((3, 4), np.float32), centroids)
    return challenger


def test_only_codewords_in_use_are_retrained(click_hours):
    """A pass moves the codewords its codes name, default and newcomers' among them, and no others."""
    challenger = with_clusters(click_hours.config())
    before = challenger.codebooks.vectors_TD.copy()
    challenger.learn(np.array([[2, 0, 1, -1, -1]] * 8, np.int16), np.ones(8, np.uint8))
    moved = np.flatnonzero((challenger.codebooks.vectors_TD != before).any(1))
    assert moved.tolist() == [2, 4, 9]
    assert np.flatnonzero(challenger.codebooks.squares_T).tolist() == [2, 4, 9]


LIVELY = {"batch_rows": 16, "table_learning_rate": 1.0, "dense_learning_rate": 0.02}


def told_by_first_field(count=320):
    """Codes and labels: the code of the first field says nearly all, that of the second one nothing."""
    rng = np.random.default_rng(0)
    codes_BS = np.full((count, 5), -1, np.int16)
    codes_BS[:, :2] = rng.integers(2, 4, (count, 2))
    labels_B = (rng.random(count) < np.where(codes_BS[:, 0] == 2, 0.9, 0.1)).astype(np.uint8)
    return codes_BS, labels_B


def test_rows_are_learnt_in_their_order_and_tell_clicks_apart(click_hours):
    """In one go or in two at the end of a batch: the same; in another order, something else."""
    one, two, other = (with_clusters(click_hours.config(training=LIVELY)) for _ in range(3))
    codes_BS, labels_B = told_by_first_field()
    one.learn(codes_BS, labels_B)
    for part in (slice(160), slice(160, None)):
        two.learn(codes_BS[part], labels_B[part])
    other.learn(codes_BS[::-1].copy(), labels_B[::-1].copy())
    same(state(one), state(two))
    assert not np.array_equal(one.codebooks.vectors_TD, other.codebooks.vectors_TD)
    assert auc(labels_B, one.score(codes_BS)) > 0.85


def test_no_rows_teach_nothing(click_hours):
    """An hour without rows leaves everything as it was."""
    challenger = with_clusters(click_hours.config(training=LIVELY))
    before = state(challenger)
    challenger.learn(np.zeros((0, 5), np.int16), np.zeros(0, np.uint8))
    same(state(challenger), before)


class Past:
    """Stands in for an hour's past where only worth is looked at."""

    def returned(self, returns):
        return returns


def measured(click_hours, codes_BS, labels_B):
    """The worth that a challenger which learnt some rows measures on the next ones, and how it was when it did so."""
    challenger, half = with_clusters(click_hours.config(training=LIVELY)), len(labels_B) // 2
    for _ in range(3):
        challenger.learn(codes_BS[:half], labels_B[:half])
    before = state(challenger)
    challenger.measure(Past(), codes_BS[half:], labels_B[half:], np.full(half, 0.5))
    after = state(challenger)
    assert {name for name in after if after[name].tobytes() != before[name].tobytes()} <= {
        "standards.worth.saved_2F",
        "standards.worth.sightings_2F",
    }, "measuring teaches nothing"
    return challenger.standards.worth, challenger


def test_worth_is_the_loss_that_codes_save(click_hours):
    """A field whose codes tell the label is worth more than one of noise; one without codes is worth nothing."""
    codes_BS, labels_B = told_by_first_field()
    worth, challenger = measured(click_hours, codes_BS, labels_B)
    without_BS = np.where(np.arange(5) == 0, DEFAULT, codes_BS)
    losses, added = (
        row_losses(labels_B[160:], challenger.score(codes[160:])).sum() for codes in (codes_BS, without_BS)
    )
    assert worth.saved_2F[0, 0] == pytest.approx(added - losses)
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


@pytest.mark.parametrize(("rows", "counted"), [(MEASURED_ROWS, MEASURED_ROWS), (MEASURED_ROWS + 1, 257), (1250, 417)])
def test_worth_is_measured_on_a_sample_of_many_rows(click_hours, rows, counted):
    """No more than 512 rows: every second one of 513, every third one of 1,250, all over the hour."""
    worth, _ = measured(click_hours, *told_by_first_field(2 * rows))
    assert MEASURED_ROWS == 512
    assert worth.sightings_2F.tolist() == [[counted, counted, 0], [0, 0, 0]]


def test_a_field_with_few_codes_is_measured_on_all_rows_that_have_one(click_hours):
    """Two rows in a thousand: both count, though no sample of 512 need have met them; the figures are of all rows."""
    codes_BS, labels_B = told_by_first_field(2000)
    codes_BS[:, 1] = DEFAULT
    codes_BS[[1007, 1501], 1] = CLUSTERS
    worth, challenger = measured(click_hours, codes_BS, labels_B)
    assert worth.sightings_2F[0].tolist() == [500, 2, 0]
    challenger.files = {"index.bin": b""}
    figures_F = challenger.measure(Past(), codes_BS[1000:], labels_B[1000:], np.full(1000, 0.5))
    assert figures_F["worth_rows"].tolist() == [500, 1000, 1000]
    assert abs(figures_F["worth"][1]) < figures_F["worth"][0] / 50


def test_the_hours_own_worth_is_told_with_its_error(click_hours):
    """A field that tells all saves loss, surely; one without codes saves nothing, for certain; nothing before files."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    for _ in range(20):
        challenger.learn(codes_BS, labels_B)
    assert challenger.measure(Past(), codes_BS, labels_B, np.full(len(labels_B), 0.5)) == {}
    challenger.files = {"index.bin": b""}
    figures_F = challenger.measure(Past(), codes_BS, labels_B, np.full(len(labels_B), 0.5))
    assert figures_F["worth"][0] > 5 * figures_F["worth_error"][0] > 0
    assert [figures_F[name][2] for name in ("worth", "worth_error")] == [0.0, 0.0]
    assert set(figures_F["worth_rows"]) == {len(labels_B)}


def test_worth_fades_and_is_carried_on(click_hours):
    """Two hours of 320 sightings, the first of them less two per cent; none in an hour without rows."""
    challenger, (codes_BS, labels_B) = with_clusters(click_hours.config(training=LIVELY)), told_by_first_field()
    for rows, wanted in ((320, 320.0), (320, 320 * 0.98 + 320), (0, (320 * 0.98 + 320) * 0.98)):
        challenger.measure(Past(), codes_BS[:rows], labels_B[:rows], np.full(rows, 0.5))
        assert challenger.standards.worth.sightings_2F[0, 0] == pytest.approx(wanted)
        challenger = Challenger.restore(challenger.config, state(challenger), "saved")


def test_the_hour_is_measured_through_the_codes_that_met_it(click_hours, hourly):
    """Returns of all its features and worth of its codes, by the challenger as it was before it learnt the hour."""
    made = hourly(click_hours.config(), 4)
    ((hour, rows),) = hours(click_hours, 1, 4)
    made.meet(hour, rows)
    before, challenger = made.challenger.standards, made.challenger
    worth, _ = challenger._worth(made.codes_BS, rows.labels_B, None)
    made.measure()
    now = challenger.standards
    for name, wanted in (("returns", made.past.returned(before.returns)), ("worth", worth)):
        for key, array in vars(wanted).items():
            assert np.array_equal(vars(getattr(now, name))[key], array)
            assert not np.array_equal(vars(getattr(before, name))[key], array)
    slots = np.array(made.config.slot_fields)
    seen_F = [((made.codes_BS >= CLUSTERS) & (slots == field)).sum() for field in range(3)]
    assert now.worth.sightings_2F[0] - 0.98 * before.worth.sightings_2F[0] == pytest.approx(seen_F)
    assert (now.hours, now.centroids) == (before.hours, before.centroids)


AUTO = {"codewords": 2, "ratio": "auto", "fingerprint_bits": 16}


def auto_hour(click_hours, hourly, monkeypatch, done=4):
    """Both models in an hour whose version had room for 30 features, and trials for 20 and 10."""
    rooms = iter([30, 20, 10] * 40)
    monkeypatch.setattr("saec.compression.dial.features_within", lambda index_bytes, cell_bits: next(rooms))
    made = hourly(click_hours.config(compression=AUTO), done)
    ((hour, rows),) = hours(click_hours, 1, done)
    moment = made.past.moment(end=True) if done else None
    made.meet(hour, rows)
    return made, moment


def weighed(made, monkeypatch, labels_B=None, challenger=None):
    """What the dial is told of the hour: losses added and AUC gained at its ratio and at each trial."""
    told = []
    monkeypatch.setattr(Auto, "learned", lambda self, *given: (told.append(given), self)[1])
    labels_B = made.rows.labels_B if labels_B is None else labels_B
    (challenger or made.challenger).measure(made.past, made.codes_BS, labels_B, made.scores_B)
    return told


def test_trials_are_weighed_by_the_versions_codes(click_hours, hourly, monkeypatch):
    """At its ratio the hour is scored through the codes that met it; a trial lacks those beyond its smaller head.

    The heads on trial are those that the room of a trial gave when the version was made.
    """
    made, moment = auto_hour(click_hours, hourly, monkeypatch)
    tried_N = made.version.standards.tried(moment.everything.candidates)
    ((added_TB, gained_T),) = weighed(made, monkeypatch)
    keys_BS, labels_B = made.rows.keys_BS, made.rows.labels_B
    sizes = []
    for trial in range(-1, 2):
        kept_BS = np.isin(keys_BS, moment.everything.keys_N[tried_N > trial]) | (trial < 0)
        codes_BS = np.where(kept_BS | (keys_BS == 0), made.codes_BS, DEFAULT)
        wanted_B = made.challenger.score(codes_BS)
        np.testing.assert_allclose(
            added_TB[trial + 1], row_losses(labels_B, wanted_B) - row_losses(labels_B, made.scores_B), atol=1e-9
        )
        assert gained_T[trial + 1] == pytest.approx(auc(labels_B, wanted_B) - auc(labels_B, made.scores_B))
        sizes.append(len(np.unique(keys_BS[codes_BS > 0])))
    assert 30 >= sizes[0] > sizes[1] > sizes[2] > 0
    assert sizes[1] <= 20
    assert sizes[2] <= 10
    assert len(added_TB) == len(gained_T) == 3


@pytest.mark.parametrize("label", [0, 1])
def test_hours_of_one_label_say_nothing_of_the_dial(click_hours, hourly, monkeypatch, label):
    """They have no AUC."""
    made, _ = auto_hour(click_hours, hourly, monkeypatch)
    assert not weighed(made, monkeypatch, np.full(150, label, np.uint8))


def test_without_a_version_there_is_nothing_to_weigh(click_hours, hourly, monkeypatch):
    """The first hour was met by none."""
    made, _ = auto_hour(click_hours, hourly, monkeypatch, done=0)
    assert not weighed(made, monkeypatch)


def test_the_dial_weighs_only_versions_that_it_made(click_hours, hourly, monkeypatch):
    """When the ratio becomes `auto`, the version that met the hour was made without trials: it says nothing of them."""
    made = hourly(click_hours.config(), 4)
    made.challenger.config = click_hours.config(compression=AUTO)
    (hour, rows), (later, next_rows) = hours(click_hours, 2, 4)
    made.meet(hour, rows)
    made.measure()
    assert made.challenger.auto.rows_L.sum() == 0
    made.learn()
    made.meet(later, next_rows)
    made.measure()
    assert made.challenger.auto.rows_L[:4].tolist() == [150, 150, 150, 0]


def test_a_fixed_ratio_is_not_weighed(click_hours, hourly, monkeypatch):
    """Its dial is left alone, and it has no trials."""
    made = hourly(click_hours.config(), 4)
    made.meet(*hours(click_hours, 1, 4)[0])
    assert not weighed(made, monkeypatch)
    assert made.challenger.trials == []
    assert made.challenger.ratio == 4.0


FINE = {
    "codewords": 6,
    "ratio": 4.0,
    "fingerprint_bits": 16,
    "codebook_precision": "float16",
    "network_precision": 32.0,
}


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("int8", 2e-2)])
def test_its_files_score_as_it_does(click_hours, hourly, tmp_path, precision, tolerance):
    """The artifact read back gives every row the score of its codes, up to the rounding of the codebooks."""
    compression = FINE | {"codebook_precision": precision}
    made = hourly(click_hours.config(compression=compression), 5)
    codes_BS = made.challenger.codes(made.rows.keys_BS)
    artifact = Model.read(tmp_path / "version")
    known = dict(zip(made.version.head_keys_H.tolist(), made.version.head_codes_H.tolist(), strict=True))
    wanted_BS = [[known.get(key, DEFAULT) if key else -1 for key in row] for row in made.rows.keys_BS.tolist()]
    assert codes_BS.tolist() == artifact.codes(made.rows.keys_BS).tolist() == wanted_BS
    found, wanted = artifact.score_keys(made.rows.keys_BS), made.challenger.score(codes_BS)
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    assert np.ptp(wanted) > 10 * tolerance


def test_unknown_features_are_scored_as_in_training(click_hours, hourly, tmp_path):
    """A row of features never seen falls on the default codewords, padding on nothing at all."""
    challenger = hourly(click_hours.config(compression=FINE), 5).challenger
    artifact = Model.read(tmp_path / "version")
    unknown_BS = np.arange(10**12, 10**12 + 50, dtype=np.uint64).reshape(10, 5)
    unknown_BS[:, 3:] = 0
    wanted_BS = np.repeat([[0, 0, 0, -1, -1]], 10, axis=0)
    assert artifact.codes(unknown_BS).tolist() == wanted_BS.tolist()
    np.testing.assert_allclose(artifact.score_keys(unknown_BS), challenger.score(wanted_BS.astype(np.int16)), atol=1e-3)


def test_a_code_beyond_its_fields_codebook_is_unknown(click_hours, hourly, tmp_path):
    """Where the fingerprint lets an unknown key through, it gets a codeword of its own field or the default one."""
    hourly(click_hours.config(), 5)
    artifact = Model.read(tmp_path / "version")

    class Careless:
        """An index that takes every key for a known one, with the key itself as its code (the index holds one less)."""

        def lookup(self, keys_BS):
            return keys_BS.astype(np.int32) - 1

    artifact.index, artifact.counts_F = Careless(), np.array([2, 4, 3])
    assert artifact.codes(np.array([[1, 5, 3, 5, 0], [4, 6, 255, 2, 1]], np.uint64)).tolist() == [
        [1, 5, 3, 0, -1],
        [0, 0, 0, 2, 1],
    ]


def test_rows_are_scored_alike_in_any_company(click_hours, hourly, tmp_path):
    """Row by row, or all at once: the same scores."""
    rows = hourly(click_hours.config(), 5).rows
    artifact = Model.read(tmp_path / "version")
    alone = np.concatenate([artifact.score_keys(row[None]) for row in rows.keys_BS[:20]])
    np.testing.assert_allclose(alone, artifact.score_keys(rows.keys_BS)[:20], rtol=1e-6)
    assert artifact.score_keys(rows.keys_BS[:0]).shape == (0,)
