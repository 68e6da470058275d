"""One scoring code: whatever way a row comes, it gets the score that the trained network gives it."""

import gc
import mmap
import weakref

import numpy as np
import pytest
import torch

from saec.compression.places import places
from saec.errors import IntegrityError
from saec.model.networks import build_network
from saec.serving import Model
from saec.serving import model as model_module
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK, SCHEMA
from saec.train.batches import Pooling
from saec.train.tensors import load_network
from tests.serving.conftest import COUNT, Published, arrow, some_rows

SAME = {"rtol": 0, "atol": 1e-6}


def by_torch(model: Model, config, keys_BS: np.ndarray) -> np.ndarray:
    """Scores by the network that training uses, over the codewords as they were read back."""
    network = build_network(config.model, len(config.field_names), config.seed)
    places_BS = torch.from_numpy(places(model.codes(keys_BS), model.counts_F, config.slot_fields))
    logits_B = torch.zeros(len(keys_BS), dtype=torch.float64)
    for member in model.members:
        load_network(network, {name: array.copy() for name, array in member.network.parameters.items()}, "the version")
        vectors_BFD = Pooling.of(config.slot_fields).gather(torch.from_numpy(member.codewords_TD), places_BS)
        logits_B += member.share * network(vectors_BFD).detach().double()
    return torch.sigmoid(logits_B).numpy()


@pytest.mark.parametrize("precision", ["int4", "int8", "float16"])
@pytest.mark.parametrize("logit_cap", [0.0, 2.0])
@pytest.mark.parametrize(
    "layout",
    [{"network": "dcnv2"}, {"network": "deepfm"}, {"hidden": []}, {"cross_layers": 1}, {"share": 0.3}],
    ids=str,
)
def test_scores_are_those_of_the_trained_network(tmp_path, layout, logit_cap, precision):
    """Both networks, capped or not, with lists, nulls, and features of no code: what torch computes, to 1e-6."""
    version = Published(tmp_path, precision, logit_cap=logit_cap, **layout)
    model = Model.open(version.folder)
    keys_BS = version.encode(arrow(some_rows(200, seed=9)))
    codes_BS = model.codes(keys_BS)
    assert {-1, 0, 1, 6} <= set(codes_BS.ravel().tolist()), "padding, default codeword, newcomers and clusters"
    wanted_B = by_torch(model, version.config, keys_BS)
    assert np.ptp(wanted_B) > 0.3
    np.testing.assert_allclose(model.score_keys(keys_BS), wanted_B, **SAME)


def logits(scores_B: np.ndarray) -> np.ndarray:
    """The logits of scores."""
    return np.log(scores_B / (1.0 - scores_B))


@pytest.mark.parametrize("network", ["dcnv2", "deepfm"])
@pytest.mark.parametrize("share", [1e-6, 0.25, 0.999999])
def test_an_ensemble_averages_the_logits_of_its_two_models(tmp_path, network, share):
    """Of rows and keys, by either engine; at the ends of the range it is the one model or the other."""
    version = Published(tmp_path / "both", share=share, network=network, logit_cap=2.0)
    alone = []
    for codebooks, parameters in ((CODEBOOKS, NETWORK), (ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK)):
        folder = tmp_path / codebooks
        folder.mkdir()
        for name, source in ((CODEBOOKS, codebooks), (NETWORK, parameters), (INDEX, INDEX), (SCHEMA, SCHEMA)):
            (folder / name).write_bytes((version.folder / source).read_bytes())
        alone.append(logits(Model.read(folder).score(version.rows)))
    assert np.abs(alone[0] - alone[1]).max() > 0.5
    wanted_B = (1.0 - share) * alone[0] + share * alone[1]
    for engine in ("numpy", "auto"):
        model = Model.open(version.folder, engine=engine)
        model.check()
        for found_B in (model.score(version.rows), model.score_keys(version.keys_BS)):
            np.testing.assert_allclose(logits(found_B), wanted_B, rtol=0, atol=1e-5)


def test_keys_are_those_of_training(model, published):
    """Dicts, columns, arrays and Arrow give the very keys that the pipeline gave the rows."""
    rows, table = published.rows, arrow(published.rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = columns | {name: table[name].to_numpy() for name in ("user", "item", "age", "mobile")}
    arrays["at"] = np.array([moment.replace(tzinfo=None) for moment in columns["at"]], "datetime64[us]")
    batch = table.combine_chunks().to_batches()[0]
    for given in (rows, tuple(rows), columns, arrays, table, batch):
        np.testing.assert_array_equal(model.encode(given), published.keys_BS)


def test_a_row_may_leave_out_what_may_be_null(model, row):
    """A key left out is a null, in dicts, columns and Arrow alike; an empty list is something else."""
    nulls = {"tags": None, "site": None, "price": None}
    bare = {name: value for name, value in row.items() if name not in nulls}
    wanted_1S = model.encode([row | nulls])
    for given in ([bare], {name: [value] for name, value in bare.items()}, arrow([row]).drop_columns(list(nulls))):
        np.testing.assert_array_equal(model.encode(given), wanted_1S)
    assert (model.encode([row | nulls | {"tags": []}]) != wanted_1S).any()


@pytest.mark.parametrize("kind", ["model", "ensemble"])
@pytest.mark.parametrize("shared", [("user",), ("user", "at", "mobile"), ("tags", "site", "price"), ("item",)])
@pytest.mark.parametrize("count", [1, 2, COUNT])
def test_candidates_of_a_user_score_as_whole_rows(request, published, kind, shared, count):
    """Columns given once for all candidates are as good as given with each."""
    model, rows = request.getfixturevalue(kind), published.rows[:count]
    user = {name: rows[0][name] for name in shared}
    own = [{name: value for name, value in row.items() if name not in user} for row in rows]
    wanted_B = model.score([row | user for row in rows])
    np.testing.assert_allclose(model.score_candidates(user, own), wanted_B, **SAME)
    assert count < 3 or np.ptp(wanted_B) > 0.01


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Model:
    """An ensemble, which numpy scores."""
    return Model.open(Published(tmp_path_factory.mktemp("ensemble"), share=0.3).folder, engine="numpy")


def test_candidates_that_do_not_differ_score_alike(model, row):
    """With everything given for the user, each candidate gets the user's score; with nothing, it is plain scoring."""
    np.testing.assert_array_equal(model.score_candidates(row, [{}] * 3), np.repeat(model.score([row]), 3))
    np.testing.assert_array_equal(model.score_candidates({}, [row, row]), model.score([row, row]))


def test_no_rows_no_scores(model, row):
    """Empty requests are answered with nothing, whatever way they come."""
    table = arrow([row])
    for given in ([], table.slice(0, 0), {name: [] for name in row}):
        assert model.score(given).shape == (0,)
    assert model.score_candidates(row, []).shape == (0,)
    assert model.score_candidates({}, []).shape == (0,)


@pytest.mark.parametrize("size", [1, 7, 19, COUNT])
def test_batches_change_nothing(model, published, monkeypatch, size):
    """In any company, and over several passes with a ragged last one, a row scores the same."""
    whole_B = model.score_keys(published.keys_BS)
    monkeypatch.setattr(model_module, "SCORED_AT_ONCE", size)
    np.testing.assert_allclose(model.score_keys(published.keys_BS), whole_B, **SAME)
    user, own = {"user": 3}, [{k: v for k, v in row.items() if k != "user"} for row in published.rows]
    np.testing.assert_allclose(model.score_candidates(user, own), model.score([row | user for row in own]), **SAME)


def test_a_feature_never_seen_scores_with_the_default_codeword(model, row):
    """A user and a site that no hour had are fine: their codes are 0."""
    keys_1S = model.encode([row | {"user": 10**15, "site": "never seen"}])
    assert model.codes(keys_1S)[0, [0, 5]].tolist() == [0, 0]
    assert 0 < model.score_keys(keys_1S)[0] < 1


def test_a_version_says_what_it_is(model, published):
    """Id, manifest and columns are at hand for whoever serves it."""
    assert model.version == model.manifest["version"] == published.version
    assert model.columns == {
        "user": "int",
        "item": "int",
        "tags": "list of string or null",
        "site": "string or null",
        "price": "float or null",
        "age": "int",
        "mobile": "bool",
        "at": "a timestamp",
    }
    assert model.schema.field_names == published.config.field_names
    assert model.schema.slot_fields == published.config.slot_fields


def test_recorded_scores_are_checked(spoilt):
    """What the gate scored is what is scored here; a score off by more than 1e-6 is refused."""
    Model.open(spoilt.folder).check()
    scores = spoilt.scores_R.tolist()
    Model.open(spoilt.recommitted(recorded={"scores": [scores[0] + 9e-7, *scores[1:]]})).check()
    for wrong in (scores[0] + 2e-6, float("1e300"), 0):
        other = Model.open(spoilt.recommitted(recorded={"scores": [wrong, *scores[1:]]}))
        with pytest.raises(IntegrityError, match="away from its recorded score"):
            other.check()


@pytest.mark.parametrize(
    "recorded", [{}, {"scores": []}, {"scores": [0.5]}, {"scores": None}, {"scores": ["x"] * 16}, [], "x"]
)
def test_recorded_rows_without_their_scores_are_refused(spoilt, recorded):
    """Keys and scores go together: as many of one as of the other."""
    with pytest.raises(IntegrityError, match=r"recorded\.safetensors"):
        Model.open(spoilt.recommitted(recorded=recorded)).check()


def test_versions_from_before_there_were_recorded_rows_pass(spoilt):
    """A version that brings none has nothing to be checked by."""
    (spoilt.folder / "recorded.safetensors").unlink()
    Model.open(spoilt.recommitted(rows=3)).check()


def test_the_index_is_used_where_the_file_lies(model):
    """It is not copied: processes that serve the same version share the pages of the file."""
    base = model.index.words
    while isinstance(base, np.ndarray):
        assert not base.flags.writeable
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)


def test_a_model_that_nobody_uses_any_more_goes_at_once(tmp_path):
    """Its maps hold files open, of which a server that swaps every hour may have only so many; nothing waits for gc."""
    model, rows = Model.open(Published(tmp_path).folder), some_rows(2)
    shared = {name: rows[0][name] for name in ("user", "site", "at")}
    model.score(rows)
    model.score_candidates(shared, [{name: row[name] for name in row.keys() - shared.keys()} for row in rows])
    parts = [weakref.ref(part) for part in (model, model.network, model.index, model.encoder)]
    gc.disable()
    try:
        del model
        assert [part() for part in parts] == [None] * 4
    finally:
        gc.enable()
