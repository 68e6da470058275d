"""The leak rule: no row is learnt through a code that has seen a label of its hour."""

import dataclasses
import types
from typing import ClassVar

import numpy as np
import pytest

import saec.compression.auto
import saec.compression.challenger
import saec.model.table
from saec import steps
from saec.compression.challenger import Challenger
from saec.compression.codes import Coding, Standards, code
from saec.compression.dial import Allowance
from saec.compression.heads import Candidates, Returns, Worth
from saec.compression.moments import HourPast
from saec.compression.places import CLUSTERS, DEFAULT, NEWCOMER
from saec.data.rows import EncodedRows
from saec.data.vocabulary import NEVER
from saec.met import challenger_of
from saec.train.original import Original
from saec.train.tensors import section
from saec.workspace import Workspace

HOURS = 5
DONE = {}
"""Hours before the last that were done once, by their workspace and rows: what the next story starts from."""
CUT = 105
QUICK = {"batch_rows": 16, "table_learning_rate": 1.0}
GATE, ALL = slice(CUT, None), slice(None)


def roomy(monkeypatch, features):
    """Give every head so many features, halved with each doubling of the ratio beyond 4."""

    def of(config, rows, ratio, models):
        return Allowance(config.compression.codewords, int(features * 4 / ratio))

    monkeypatch.setattr(steps, "Allowance", types.SimpleNamespace(of=of))


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("all fit", "tight head", "false accepts")),
        "auto",
    ],
)
def kind(request, tmp_path_factory):
    """What decides who has a code, and the workspace of all stories about it."""
    return types.SimpleNamespace(name=request.param, workspace=tmp_path_factory.mktemp("workspace"), plain=None)


@pytest.fixture
def config(click_hours, kind, monkeypatch):
    """Fast learning, so that labels do reach the codes wherever they can, and all that may decide who has a code.

    The hours before the last are done here, once for all tests: a fault that a test plants is one of the last hour.
    """
    compression = {"codewords": 6, "ratio": 4.0, "fingerprint_bits": 16}
    if kind.name == "tight head":
        roomy(monkeypatch, 24)
    elif kind.name == "false accepts":
        compression["fingerprint_bits"] = 2
        roomy(monkeypatch, 24)
    elif kind.name == "auto":
        compression["ratio"] = "auto"
        monkeypatch.setattr(saec.compression.auto, "ENOUGH_ROWS", 100)
        roomy(monkeypatch, 24 * 25 / 4)
    config = click_hours.config(training=QUICK, compression=compression, workspace=kind.workspace)
    if kind.plain is None:
        kind.plain = story(click_hours, config, monkeypatch)
    return config


@pytest.fixture
def plain(kind, config):
    """The story of the hours as they are; not to be changed."""
    return kind.plain


def hours_of(click_hours):
    """Five hours of rows. User 999 comes in the last one, user 998 in the one before and in the last one's gate."""
    hours = [(hour, click_hours.rows(hour)) for hour in (click_hours.first + number for number in range(HOURS))]
    hours[-2][1].keys_BS[[5, 60], 0] = click_hours.keys(0, np.array([998]))
    hours[-1][1].keys_BS[[2, 40, 75, 140], 0] = click_hours.keys(0, np.array([999]))
    hours[-1][1].keys_BS[[110, 130], 0] = click_hours.keys(0, np.array([998]))
    return hours


def flipped(*parts, back=0):
    """Turns over labels of the last hour, or of one so many hours earlier."""

    def change(hours):
        for part in parts:
            hours[-1 - back][1].labels_B[part] ^= 1

    return change


def other_gate_keys(hours):
    """Puts other features into the gate rows: users of later hours, tags in other company; user 998 stays away."""
    keys_BS = hours[-1][1].keys_BS
    keys_BS[CUT:] = np.roll(hours[0][1].keys_BS[CUT:], 3, axis=0)
    keys_BS[[115, 116, 117], 0] = 7_777


def unchanged(hours):
    """Leaves the hours as they are."""


class Ingested:
    """Stands in for an hour's ingest record: its rows are in memory."""

    other_keys_sha256 = ""
    slices: ClassVar = {}

    def __init__(self, rows):
        self.rows = rows

    def load_rows(self, folder):
        return self.rows


@dataclasses.dataclass
class Done:
    """What the real steps made of the last of the hours."""

    rows: EncodedRows
    arrays: dict[str, np.ndarray]
    """The cluster step's file."""
    learnt: list[tuple[np.ndarray, np.ndarray]]
    """What the challenger learnt: codes and labels of each part."""
    state: dict[str, np.ndarray]
    """The challenger's checkpoint."""
    before: dict[str, np.ndarray]
    """The challenger's checkpoint of the hour before."""

    @property
    def codes_BS(self):
        """The codes through which the hour was learnt."""
        return np.concatenate([codes_BS for codes_BS, _ in self.learnt])

    def part(self, name):
        """The coding of the candidate, or of the version, as bytes by name."""
        return {key: array.tobytes() for key, array in section(self.arrays, f"{name}.").items()}


def story(click_hours, config, monkeypatch, changed=unchanged):
    """The hours through the steps as they are, from train to retrain."""
    learnt, learn = [], Challenger.learn

    def note(self, codes_BS, labels_B, weights_B):
        learnt.append((codes_BS.copy(), labels_B.copy()))
        return learn(self, codes_BS, labels_B, weights_B)

    with monkeypatch.context() as patch:
        patch.setattr(Challenger, "learn", note)
        patch.setattr(Workspace, "_resident", None)
        plan, hours, told = steps.HourPlan(config, click_hours.first), hours_of(click_hours), b""
        changed(hours)
        for hour, rows in hours:
            del learnt[:]
            before, plan, ingested = plan.challenger, dataclasses.replace(plan, hour=hour), Ingested(rows)
            told += rows.labels_B.tobytes() + rows.keys_BS.tobytes()
            if hour < hours[-1][0] and (config.workspace, told) in DONE:
                plan = DONE[config.workspace, told]
                continue
            trained = steps.train(plan, ingested)
            clustered = steps.cluster(plan, ingested, trained)
            retrained = steps.retrain(plan, ingested, trained, clustered)
            plan = dataclasses.replace(plan, original=trained.original, challenger=retrained.challenger)
            DONE[config.workspace, told] = plan
    arrays, load = plan.workspace.read(hour, clustered.codes), plan.workspace.checkpoints.load
    return Done(rows, arrays, learnt, load(plan.challenger), load(before))


def check_no_leak(click_hours, config, monkeypatch):
    """Turn labels of the hour over: the codes through which it is learnt must not change by a bit."""
    plain = story(click_hours, config, monkeypatch)
    for part in (ALL, slice(0, CUT), GATE, slice(0, 30), slice(120, 121)):
        other = story(click_hours, config, monkeypatch, flipped(part))
        assert other.codes_BS.tobytes() == plain.codes_BS.tobytes(), "an hour is learnt through its own labels"


def check_candidate_knows_no_gate_row(click_hours, config, monkeypatch, *changes):
    """Change the gate rows: nothing of the candidate's coding must change by a bit."""
    plain = story(click_hours, config, monkeypatch).part("candidate")
    for change in changes or (flipped(GATE), other_gate_keys):
        found = story(click_hours, config, monkeypatch, change).part("candidate")
        assert found.keys() == plain.keys()
        differ = {name for name, data in found.items() if data != plain[name]}
        assert not differ, f"the candidate knows its gate rows: {differ}"


def test_no_row_is_learnt_through_a_code_that_knows_a_label_of_its_hour(click_hours, config, monkeypatch):
    """Whichever labels of an hour are turned over, the codes through which it is learnt stay the same."""
    check_no_leak(click_hours, config, monkeypatch)


def test_labels_do_reach_the_codes_that_may_know_them(click_hours, config, plain, monkeypatch):
    """The check above has teeth: labels of the hour before, those of its gate rows too, change these codes."""
    for part in (slice(0, CUT), GATE):
        other = story(click_hours, config, monkeypatch, flipped(part, back=1))
        assert other.codes_BS.tobytes() != plain.codes_BS.tobytes()
        assert (other.codes_BS >= CLUSTERS).mean() > 0.1


def test_all_rows_are_learnt_once_in_order_by_codes_of_the_version_before(config, plain):
    """Train rows, then gate rows, each through what the index of the hour before gives it, false accepts among it."""
    assert [len(labels_B) for _, labels_B in plain.learnt] == [CUT, 150 - CUT]
    assert np.array_equal(np.concatenate([labels_B for _, labels_B in plain.learnt]), plain.rows.labels_B)
    version = Challenger.restore(config, plain.before, "before").version
    assert np.array_equal(plain.codes_BS, version.codes(plain.rows.keys_BS))
    assert {-1, DEFAULT, CLUSTERS} <= set(np.unique(plain.codes_BS).tolist())
    unknown = plain.codes_BS[:, 0][np.isin(np.arange(150), [2, 40, 75, 140])]
    assert len(set(unknown.tolist())) == 1
    assert (unknown == DEFAULT).all() or config.compression.fingerprint_bits == 2


def test_rows_learnt_through_the_codes_of_their_hours_end_are_caught(click_hours, config, monkeypatch):
    """A planted fault: the rows are coded by the version that has learnt them."""
    cluster = steps.cluster

    def leaky(plan, ingested, trained):
        clustered = cluster(plan, ingested, trained)
        arrays = plan.workspace.read(plan.hour, clustered.codes)
        version = Coding.from_arrays(section(arrays, "version."))
        known = dict(zip(version.head_keys_H.tolist(), version.head_codes_H.tolist(), strict=True))
        codes = [[known.get(key, DEFAULT) for key in row] for row in ingested.rows.keys_BS.tolist()]
        within = challenger_of(plan, plan.workspace).standards.centroids.counts_F[np.array(config.slot_fields)] + 1
        arrays["codes_BS"] = np.where(ingested.rows.keys_BS == 0, -1, np.minimum(codes, within)).astype(np.int16)
        return dataclasses.replace(clustered, codes=plan.workspace.write(plan.hour, "codes.safetensors", arrays))

    monkeypatch.setattr(steps, "cluster", leaky)
    with pytest.raises(AssertionError, match="its own labels"):
        check_no_leak(click_hours, config, monkeypatch)


def test_gate_rows_reach_nothing_of_the_candidate(click_hours, config, monkeypatch, tmp_path):
    """Neither their labels nor who is in them: head, codes, succession, centroids and standards stay the same.

    New rows of the table begin at zero here: the numbers they else begin at are drawn for all rows of the hour at once.
    And frequencies do not halve: their decay is rounded once or twice, as their feature is in the hour or not.
    """
    monkeypatch.setattr(saec.model.table, "INITIAL_SCALE", 0.0)
    vocabulary = config.vocabulary.model_copy(update={"half_life": 1e12})
    config = config.model_copy(update={"vocabulary": vocabulary, "workspace": tmp_path})
    check_candidate_knows_no_gate_row(click_hours, config, monkeypatch)


def test_gate_rows_do_reach_the_version(click_hours, config, plain, monkeypatch):
    """The check above has teeth: at the hour's end their labels are in the codes, and who was in them in the head."""
    labels, keys = (story(click_hours, config, monkeypatch, change) for change in (flipped(GATE), other_gate_keys))
    names = {"head_codes_H", "standards.centroids.vectors_CD", "standards.worth.saved_2F", "succession.new_means_TD"}
    assert names <= {name for name, data in labels.part("version").items() if data != plain.part("version")[name]}
    assert "head_keys_H" in {name for name, data in keys.part("version").items() if data != plain.part("version")[name]}
    assert plain.part("version").keys() == plain.part("candidate").keys()
    if config.compression.ratio == "auto":
        assert plain.arrays["auto.added_L"].tobytes() != labels.arrays["auto.added_L"].tobytes()


def test_train_labels_do_reach_the_candidate(click_hours, config, plain, monkeypatch):
    """It is as trained as it can be: the labels before the cut are in its codes and centroids."""
    other = story(click_hours, config, monkeypatch, flipped(slice(0, CUT))).part("candidate")
    plain = plain.part("candidate")
    assert {"head_codes_H", "standards.centroids.vectors_CD"} <= {name for name in plain if plain[name] != other[name]}


def test_vectors_of_the_cut_taken_too_late_are_caught(click_hours, config, monkeypatch):
    """A planted fault: the vectors of the gate rows' features are those after the gate rows were learnt."""
    learn = Original.learn

    def leaky(self, hour, rows, prepared, cut):
        at_cut = learn(self, hour, rows, prepared, cut)
        return dataclasses.replace(at_cut, vectors_ND=self.table.vectors_VD[at_cut.rows_N])

    monkeypatch.setattr(Original, "learn", leaky)
    with pytest.raises(AssertionError, match="knows its gate rows"):
        check_candidate_knows_no_gate_row(click_hours, config, monkeypatch, flipped(GATE))


def test_a_candidate_of_the_hours_end_is_caught(click_hours, config, monkeypatch):
    """A planted fault: both codings are of the end."""
    coded = steps._coded
    monkeypatch.setattr(steps, "_coded", lambda challenger, past, *, end: coded(challenger, past, end=True))
    for change in (flipped(GATE), other_gate_keys):
        with pytest.raises(AssertionError, match="knows its gate rows"):
            check_candidate_knows_no_gate_row(click_hours, config, monkeypatch, change)


def test_measuring_before_the_candidate_is_coded_is_caught(click_hours, config, monkeypatch):
    """A planted fault: returns, worth and the dial of `ratio: auto` see the gate rows before the candidate is coded."""
    coded, cluster, now = steps._coded, steps.cluster, {}

    def note(plan, ingested, trained):
        now.update(rows=ingested.rows, **plan.workspace.read(plan.hour, trained.scores))
        return cluster(plan, ingested, trained)

    def late(challenger, past, *, end):
        if not end:
            rows = now["rows"]
            codes_BS = challenger.codes(rows.keys_BS).astype(np.int16)
            challenger.measure(past, codes_BS, rows.labels_B, now["original_B"])
        return coded(challenger, past, end=end)

    monkeypatch.setattr(steps, "cluster", note)
    monkeypatch.setattr(steps, "_coded", late)
    for change in (flipped(GATE), other_gate_keys):
        with pytest.raises(AssertionError, match="knows its gate rows"):
            check_candidate_knows_no_gate_row(click_hours, config, monkeypatch, change)


def test_what_the_gate_rows_say_counts_from_the_next_hour_on(config, plain):
    """The candidate's standards are the hour before's; the version's have the hour's returns and worth, and its dial.

    The challenger goes on from the version's, at the version's ratio.
    """
    before, candidate, version, after = (
        Standards.from_arrays(section(arrays, prefix))
        for arrays, prefix in (
            (plain.before, "standards."),
            (plain.arrays, "candidate.standards."),
            (plain.arrays, "version.standards."),
            (plain.state, "standards."),
        )
    )
    for name in ("returns", "worth"):
        old, cut, end, kept = (vars(getattr(part, name)) for part in (before, candidate, version, after))
        for key in old:
            assert np.array_equal(old[key], cut[key])
            assert not np.array_equal(old[key], end[key])
            assert np.array_equal(end[key], kept[key])
    assert (before.hours, candidate.hours, version.hours, after.hours) == (HOURS - 1, HOURS, HOURS, HOURS)
    for name in ("step", "added_L"):
        assert np.array_equal(plain.arrays[f"auto.{name}"], plain.state[f"auto.{name}"])
    moved = not np.array_equal(plain.state["auto.added_L"], plain.before["auto.added_L"])
    assert moved == (config.compression.ratio == "auto") == (len(version.trials_T) > 0)


def test_codes_of_the_head_only(click_hours, config, plain):
    """Clusters within the field's book for features with a row, the newcomers' code for the hour's newcomers."""
    for part, rows in (("candidate", slice(0, CUT)), ("version", ALL)):
        coding = Coding.from_arrays(section(plain.arrays, f"{part}."))
        assert coding.head_codes_H.dtype == np.int16
        assert len(set(coding.head_keys_H.tolist())) == len(coding.head_keys_H) > 20
        newcomers = coding.head_keys_H[coding.head_codes_H == NEWCOMER]
        assert np.isin(newcomers, plain.rows.keys_BS[rows]).all()
        if config.compression.ratio == 4.0 and len(coding.head_keys_H) > 24:
            assert click_hours.keys(0, np.array([999]))[0] in newcomers
        fields = dict(zip(plain.rows.keys_BS.ravel().tolist(), np.tile(config.slot_fields, 150).tolist(), strict=True))
        counts_F = coding.standards.centroids.counts_F
        for key, given in zip(coding.head_keys_H.tolist(), coding.head_codes_H.tolist(), strict=True):
            assert NEWCOMER <= given < CLUSTERS + (counts_F[fields[key]] if key in fields else counts_F.max())


@pytest.mark.parametrize("kind", ["tight head"], indirect=True)
def test_heads_keep_to_their_room(click_hours, config, monkeypatch):
    """A head has no more features than there is room for, and no fewer where there are more."""
    roomy(monkeypatch, 16)
    done = story(click_hours, config, monkeypatch)
    for part in ("candidate", "version"):
        coding = Coding.from_arrays(section(done.arrays, f"{part}."))
        assert 14 <= len(coding.head_keys_H) <= 16


def test_figures_of_an_hour(plain):
    """Churn is a share, neither 0 nor 1 here; heads of all fields make up the head, newcomers left out."""
    coding = Coding.from_arrays(section(plain.arrays, "version."))
    assert 0.0 < coding.churn < 1.0
    assert coding.figures_F["head"].sum() == (coding.head_codes_H >= CLUSTERS).sum()
    assert (coding.figures_F["used"] <= coding.figures_F["clusters"]).all()


def test_codings_survive_their_file(plain):
    """`from_arrays` of `arrays` is the same coding."""
    arrays = section(plain.arrays, "version.")
    again = Coding.from_arrays(arrays).arrays()
    assert again.keys() == arrays.keys()
    assert all(np.array_equal(array, again[name]) for name, array in arrays.items())
    assert {"head_keys_H", "standards.trials_T", "succession.old_P", "figures.head"} <= arrays.keys()


# --- an hour's past -------------------------------------------------------------------------------------------------

PLAIN = {"half_life": 1e9, "admit_after": 2}


def rows_of(click_hours, hour, *users):
    """An hour of some users, one a row, without item and tags."""
    keys_BS = np.zeros((len(users), 5), np.uint64)
    keys_BS[:, 0] = click_hours.keys(0, np.array(users))
    labels_B = (np.arange(len(users)) % 2).astype(np.uint8)
    return EncodedRows(labels_B, hour.start_ms + np.arange(len(users)), keys_BS)


def pasts(click_hours, *hours, cuts=None, vocabulary=PLAIN):
    """The past of each of some hours, given as a number of hours since the first and the users in it, as it ended."""
    original = Original(click_hours.config(vocabulary=vocabulary))
    for place, (number, users) in enumerate(hours):
        hour = click_hours.first + number
        rows = rows_of(click_hours, hour, *users)
        cut = (cuts or {}).get(place, len(rows))
        at_cut = original.learn(hour, rows, original.prepare(hour, rows), cut)
        yield HourPast(original, hour, rows.keys_BS, cut, at_cut)


def candidates(*told):
    """Candidates of the first field given as (frequency, age, whether it has a row)."""
    frequency, ages, own = zip(*told, strict=True) if told else ((), (), ())
    return Candidates(
        np.zeros(len(told), np.int64), np.array(frequency, np.float32), np.array(ages, np.int64), np.array(own, bool)
    )


def returned(past):
    found = past.returned(Returns.start(3))
    return found.known_2FQA, found.sighted_2FQA


def wanted(*told):
    """Returns after one hour in which candidates came back so often, given as (frequency, age, own, sightings)."""
    features, sightings = candidates(*(one[:3] for one in told)), np.array([one[3] for one in told], np.int64)
    found = Returns.start(3).learned(features, sightings)
    return found.known_2FQA, found.sighted_2FQA


@pytest.mark.parametrize("cut", [None, 1])
def test_returns_by_hand(click_hours, cut):
    """Who was there before each hour, and how often they came back in all of it, wherever it is cut.

    User 1 has a row after two sightings in the first hour, 2 and 3 after the second hour; the fourth hour is missing.
    """
    hours = [(0, [1, 1, 2]), (1, [1, 2, 3, 3]), (2, [1, 2, 2, 4]), (4, [4, 3, 3, 1])]
    cuts = {place: cut for place in range(4) if cut}
    first, second, third, fifth = map(returned, pasts(click_hours, *hours, cuts=cuts))
    assert not first[0].any()
    assert not first[1].any()
    # Nobody has a row before the second hour: 1 and 2 are newcomers of the first.
    assert np.array_equal(second, wanted((2, 1, False, 1), (1, 1, False, 1)))
    # 1 was given its row in the second hour; 2 and 3 have none yet; 4 was not there before.
    assert np.array_equal(third, wanted((3, 1, True, 1), (2, 1, False, 2), (2, 1, False, 0)))
    # 2 got its row in the third hour; 4 is a newcomer of the last hour there was; 3 was one of an earlier hour.
    assert np.array_equal(fifth, wanted((4, 2, True, 1), (4, 2, True, 0), (1, 2, False, 1)))


def test_returns_are_added_to_what_was_known(click_hours):
    """What earlier hours said fades by two per cent."""
    *_, past = pasts(click_hours, (0, [1, 1, 2]), (1, [1, 2, 3, 3]))
    once = past.returned(Returns.start(3))
    twice = past.returned(once)
    assert twice.known_2FQA.sum() == pytest.approx(2 + 0.98 * 2)
    assert twice.sighted_2FQA.sum() == pytest.approx(2 + 0.98 * 2)


def same(found, told):
    """Candidates are as told: fields, frequency, ages and rows."""
    for name, array in vars(told).items():
        np.testing.assert_allclose(getattr(found, name), array, rtol=1e-6, err_msg=name)


def test_features_as_they_were_before_their_hour(click_hours):
    """All of the hour's features in the order of their keys, those that it brought among them."""
    *_, past = pasts(click_hours, (0, [1, 1, 2]), (1, [1, 2, 3, 3]), (3, [1, 2, 3, 4, 4]))
    never = past.hour.index - NEVER
    told = {1: (3, 2, True), 2: (2, 2, False), 3: (2, 2, False), 4: (0, never, False)}
    keys = {int(click_hours.keys(0, np.array([user]))[0]): one for user, one in told.items()}
    same(past.before(), candidates(*(keys[key] for key in past.features.keys_U.tolist())))


def by_key(moment):
    """What is known of each candidate, and its row."""
    choice = moment.everything
    known = choice.candidates
    columns = (known.fields_N, known.frequency_N, known.ages_N, known.own_N, choice.rows_N >= 0)
    return {key: values for key, *values in zip(choice.keys_N.tolist(), *(c.tolist() for c in columns), strict=True)}


def named(click_hours, moment):
    """The same by user."""
    users = {int(click_hours.keys(0, np.array([user]))[0]): user for user in range(10)}
    return {users[key]: tuple(known[1:4]) for key, known in by_key(moment).items()}


def test_moments_by_hand(click_hours):
    """Who may have a code at the cut and at the hour's end, how frequent and how long unseen for the hour after.

    Before the hour 1 and 6 have rows. 2 earns its own with the hour, before the cut; 3 in the gate rows alone: at the
    cut it is nobody, for had the hour ended there, it would have no row. 4 comes before the cut, 5 after it.
    """
    hours = [(0, [1, 1, 6, 6]), (1, [1, 2, 2, 3, 3, 6]), (2, [2, 4, 1, 3, 5, 1])]
    *_, past = pasts(click_hours, *hours, cuts={2: 3})
    assert named(click_hours, past.moment(end=False)) == {
        1: (4, 1, True),
        6: (3, 2, True),
        2: (3, 1, True),
        4: (1, 1, False),
    }
    assert named(click_hours, past.moment(end=True)) == {
        1: (5, 1, True),
        6: (3, 2, True),
        2: (3, 1, True),
        3: (3, 1, True),
        4: (1, 1, False),
        5: (1, 1, False),
    }
    assert [past.moment(end=end).rows for end in (False, True)] == [3 + 3, 3 + 4]


def test_room_is_made_for_what_has_a_row_at_the_moment(click_hours, hourly, monkeypatch):
    """The rows that an allowance is reckoned against: at the cut without those that only the gate rows brought."""
    asked, of = [], Allowance.of
    made = hourly(click_hours.config(compression={"codewords": 6, "ratio": "auto"}))
    noted = types.SimpleNamespace(of=lambda *args, models: (asked.append(args[1]), of(*args, models))[1])
    monkeypatch.setattr(steps, "Allowance", noted)
    for hour, rows in hours_of(click_hours):
        del asked[:]
        made.do(hour, rows)
    at_cut, at_end = (made.past.moment(end=end).rows for end in (False, True))
    assert asked == [at_cut] * 3 + [at_end] * 3
    assert at_cut < at_end == 3 + made.original.vocabulary.admitted


def test_a_burst_leaves_some_features_out(click_hours):
    """What the vocabulary had no room for is nobody's candidate, and nothing stumbles over it."""
    *_, past = pasts(click_hours, (0, [1]), (1, [2, 2, 3, 4]), cuts={1: 3}, vocabulary={**PLAIN, "max_new_features": 1})
    assert named(click_hours, past.moment(end=True)) == {2: (2, 1, False)}
    assert np.array_equal(returned(past), wanted((1, 1, False, 0)))
    assert past.before().own_N.tolist() == [False] * 3


@pytest.mark.parametrize("half_life", [168.0, 3.0])
def test_the_cut_is_as_if_the_hour_had_ended_there(click_hours, half_life):
    """An original that was given only the rows before the cut has the same candidates at its hour's end."""
    config = click_hours.config(vocabulary={"half_life": half_life}, training=QUICK)
    whole, short = Original(config), Original(config)
    for hour, rows in hours_of(click_hours):
        last = hour == click_hours.first + HOURS - 1
        for original, cut in ((whole, CUT), (short, CUT)):
            part = slice(0, cut if last and original is short else None)
            given = EncodedRows(rows.labels_B[part], rows.times_B[part], rows.keys_BS[part])
            at_cut = original.learn(hour, given, original.prepare(hour, given), cut)
            if original is whole:
                past = HourPast(whole, hour, rows.keys_BS, cut, at_cut)
    ended = HourPast(short, hour, given.keys_BS, CUT, at_cut)
    found, told = by_key(past.moment(end=False)), by_key(ended.moment(end=True))
    assert found.keys() == told.keys()
    for key, known in told.items():
        assert found[key] == [known[0], pytest.approx(known[1], rel=1e-6), *known[2:]]
    assert past.moment(end=False).rows == 3 + short.vocabulary.admitted < past.moment(end=True).rows
    (found_VD, told_VD) = (vectors_of(moment) for moment in (past.moment(end=False), ended.moment(end=True)))
    alike = [np.array_equal(found_VD[key], vector_D) for key, vector_D in told_VD.items()]
    assert all(alike)
    end_VD = vectors_of(past.moment(end=True))
    assert np.mean([np.array_equal(end_VD[key], vector_D) for key, vector_D in told_VD.items()]) < 0.5


def vectors_of(moment):
    """The vector of each feature with a row, by key."""
    own = moment.everything[moment.everything.candidates.own_N]
    return dict(zip(own.keys_N.tolist(), moment.vectors(own), strict=True))


# --- coding a moment ------------------------------------------------------------------------------------------------


def moment_of(click_hours, hourly, **sections):
    """Both models in their fifth hour, met and not yet learnt."""
    made = hourly(click_hours.config(training=QUICK, **sections), 4)
    hour, rows = hours_of(click_hours)[-1]
    made.meet(hour, rows)
    return made


@pytest.mark.parametrize("codewords", [2, 8])
def test_trials_are_the_heads_of_less_room(click_hours, hourly, codewords):
    """A feature is in a trial just when it is in the head that as much room would give, fields without limit or not."""
    made = moment_of(click_hours, hourly)
    moment, challenger = made.past.moment(end=True), made.challenger
    rooms = [30, 24, 20, 5 if codewords == 2 else 18]
    codings = [
        code(
            moment,
            challenger.standards,
            challenger.codes,
            Allowance(codewords, room),
            [Allowance(codewords, trial) for trial in rooms[1:]],
        )
        for room in rooms
    ]
    tried_N = codings[0].standards.tried(moment.everything.candidates)
    for trial, coding in enumerate(codings[1:]):
        assert set(moment.everything.keys_N[tried_N > trial].tolist()) == set(coding.head_keys_H.tolist())
    assert [len(coding.head_keys_H) for coding in codings] == rooms
    assert codings[0].standards.direct_F.any() == (codewords == 8)
    assert len(codings[0].standards.trials_T) == 3


def test_a_field_of_few_features_is_coded_whole(click_hours, hourly):
    """As many features with a row as codewords, or fewer: all of them have a code, whatever they are worth."""
    made = moment_of(click_hours, hourly)
    standards = made.challenger.standards
    worth = Worth(np.array([[9.0, 9, 0], [0, 0, 0]]), np.full((2, 3), 1e6))
    standards = dataclasses.replace(standards, worth=worth)
    moment = made.past.moment(end=True)
    choice = moment.everything
    tags = choice.keys_N[choice.candidates.own_N & (choice.candidates.fields_N == 2)]
    for codewords, direct in ((len(tags), True), (len(tags) - 1, False)):
        coding = code(moment, standards, made.challenger.codes, Allowance(codewords, len(tags)))
        assert np.isin(tags, coding.head_keys_H).all() == direct == coding.standards.direct_F[2]


def test_codes_before_are_those_of_the_version(click_hours, hourly):
    """Succession and churn follow from what the version's index gives the head, asked by key and field."""
    made, asked = moment_of(click_hours, hourly), []

    def codes_before(keys_N, fields_N):
        asked.append((keys_N, fields_N))
        return made.challenger.version.codes(keys_N, fields_N)

    coding = code(made.past.moment(end=True), made.challenger.standards, codes_before, Allowance(6, 100))
    keys_N, fields_N = asked[0]
    own_H = coding.head_codes_H >= CLUSTERS
    assert np.array_equal(keys_N, coding.head_keys_H[own_H])
    old_H, now_H = made.challenger.version.codes(keys_N, fields_N), coding.head_codes_H[own_H]
    known = dict(zip(made.version.head_keys_H.tolist(), made.version.head_codes_H.tolist(), strict=True))
    assert old_H.tolist() == [known.get(key, DEFAULT) for key in keys_N.tolist()]
    before, now = made.challenger.standards.centroids.starts_F, coding.standards.centroids.starts_F
    pairs = set(zip((before[fields_N] + old_H).tolist(), (now[fields_N] + now_H).tolist(), strict=True))
    assert set(zip(coding.succession.old_P.tolist(), coding.succession.new_P.tolist(), strict=True)) == pairs
    frequency_N = made.original.vocabulary.frequency(made.past.hour + 1, made.original.vocabulary.find(keys_N))
    had_N = old_H != DEFAULT
    assert coding.churn == pytest.approx(frequency_N[had_N & (old_H != now_H)].sum() / frequency_N[had_N].sum())


def test_a_moment_has_the_vectors_of_its_time(click_hours, hourly):
    """A feature's vector is its row and its class row, both at the cut or at the end; of these are the centroids.

    Here a field has a codeword for each feature.
    """
    made = moment_of(click_hours, hourly)
    for end in (False, True):
        moment = made.past.moment(end=end)
        coding = code(moment, made.challenger.standards, made.challenger.codes, Allowance(60, 200))
        choice = moment.everything
        choice = choice[choice.candidates.own_N & (choice.candidates.fields_N == 1)]
        known, table_VD = choice.candidates, made.original.table.vectors_VD
        classes_M = made.original.vocabulary.class_rows(known.fields_N, known.frequency_N, known.ages_N)
        then_VD = table_VD if end else made.at_cut.vectors(np.arange(len(table_VD)), table_VD)
        wanted_MD = then_VD[choice.rows_N] + then_VD[classes_M]
        assert np.array_equal(moment.vectors(choice), wanted_MD)
        assert np.array_equal(then_VD, table_VD) == end
        given = dict(zip(coding.head_keys_H.tolist(), coding.head_codes_H.tolist(), strict=True))
        codes_M = np.array([given[key] for key in choice.keys_N.tolist()])
        np.testing.assert_allclose(coding.standards.centroids.of(1)[codes_M - CLUSTERS], wanted_MD, rtol=1e-5)


def test_the_first_hour_has_no_clusters(click_hours, hourly):
    """Nothing has a row of its own yet: the codes that met it are default ones, those made of it its newcomers'."""
    made = hourly(click_hours.config(training=QUICK))
    rows = click_hours.rows(click_hours.first)
    made.do(click_hours.first, rows)
    assert set(np.unique(made.codes_BS).tolist()) == {-1, DEFAULT}
    for coding, part in ((made.candidate, slice(0, CUT)), (made.version, ALL)):
        assert set(coding.head_codes_H.tolist()) == {NEWCOMER}
        assert sorted(coding.head_keys_H.tolist()) == sorted(set(rows.keys_BS[part].ravel().tolist()) - {0})
        assert coding.standards.centroids.counts_F.tolist() == [0, 0, 0]


def test_fewer_codewords_than_the_hour_before(click_hours, hourly):
    """When codebooks are made smaller between two hours, the hour is learnt by the old books and coded by the new."""
    made = hourly(click_hours.config(training=QUICK), 4)
    made.original.config = made.challenger.config = click_hours.config(
        training=QUICK, compression={"codewords": 2, "ratio": 4.0}
    )
    hour, rows = hours_of(click_hours)[-1]
    made.do(hour, rows)
    assert made.codes_BS.max() == CLUSTERS + 5
    assert made.version.standards.centroids.counts_F.tolist() == [2, 2, 2]
    assert made.version.head_codes_H.max() == made.candidate.head_codes_H.max() == CLUSTERS + 1
    assert made.challenger.codes(rows.keys_BS).max() == CLUSTERS + 1


@pytest.mark.parametrize("count", [0, 1, 20])
def test_hours_without_gate_rows_are_coded(click_hours, hourly, count):
    """Where all rows are of one instant, or there is none, the hour's end is the cut."""
    made = hourly(click_hours.config(training=QUICK), 4)
    made.do(click_hours.first + 4, click_hours.rows(click_hours.first + 4, count), cut=count)
    for name in ("head_keys_H", "head_codes_H"):
        assert np.array_equal(getattr(made.candidate, name), getattr(made.version, name))
    assert (made.version.head_codes_H >= CLUSTERS).any()
