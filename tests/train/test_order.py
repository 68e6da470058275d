"""The result of an hour does not depend on the order of features, within or between fields."""

import copy

import numpy as np
import pytest

from saec.compression.challenger import Challenger
from saec.compression.codes import code
from saec.compression.dial import Allowance
from saec.compression.moments import HourPast
from saec.train.original import Original

CUT = 105


def state(original):
    """Copies of everything a snapshot holds, but for what is derived from the rest."""
    return {name: np.array(array) for name, array in original.snapshot().arrays.items()}


def reordered(arrays, shared, order):
    """The same state with features, and rows of their own, in another order: `order` of a count is a permutation."""
    features, rows = (order(len(arrays[name])) for name in ("vocabulary.keys_V", "table.squares_V"))
    rows = np.concatenate([np.arange(shared), rows[rows >= shared]])
    place = np.argsort(rows)
    moved = dict(arrays)
    for name in arrays:
        if name.startswith("vocabulary."):
            moved[name] = arrays[name][features]
        if name.startswith("table."):
            moved[name] = arrays[name][rows]
    row_V = moved["vocabulary.row_V"]
    moved["vocabulary.row_V"] = np.where(row_V >= 0, place[row_V], -1).astype(row_V.dtype)
    return moved


def by_key(original):
    """What is known of each feature, by key: its numbers and, where it has one, its row."""
    known, table = original.vocabulary, original.table
    rows = known.row_V
    return {
        int(key): (
            known.sightings_V[place],
            known.frequency_V[place],
            known.last_seen_V[place],
            table.vectors_VD[rows[place]].tobytes() if rows[place] >= 0 else None,
        )
        for place, key in enumerate(known.keys_V)
    }


@pytest.mark.parametrize("order", [lambda count: np.arange(count)[::-1], np.random.default_rng(7).permutation])
def test_another_interleaving_comes_to_the_same(click_hours, order):
    """Features and rows in any other order: the same scores, vectors by key, head, codes and centroids, bit for bit."""
    config = click_hours.config()
    first = Original(config)
    for number in range(3):
        rows, hour = click_hours.rows(click_hours.first + number), click_hours.first + number
        first.learn(hour, rows, first.prepare(hour, rows), CUT)
    arrays = state(first)
    second = Original.restore(config, copy.deepcopy(reordered(arrays, first.vocabulary.shared, order)), "reordered")
    assert list(by_key(first)) != list(by_key(second))
    hour = click_hours.first + 3
    rows, challenger, found = click_hours.rows(hour), Challenger(config), []
    for original in (first, second):
        prepared = original.prepare(hour, rows)
        scores_B = original.score(prepared)
        at_cut = original.learn(hour, rows, prepared, CUT)
        past = HourPast(original, hour, rows.keys_BS, CUT, at_cut)
        returns = past.returned(challenger.standards.returns)
        codings = [
            code(past.moment(end=end), challenger.standards, challenger.codes, Allowance(4, 30))
            for end in (False, True)
        ]
        found.append(
            [scores_B, at_cut.scores_G, returns.known_2FQA, returns.sighted_2FQA]
            + [array for coding in codings for array in coding.arrays().values()]
        )
    assert [array.tobytes() for array in found[0]] == [array.tobytes() for array in found[1]]
    assert dict(sorted(by_key(first).items())) == dict(sorted(by_key(second).items()))
    assert first.identity == second.identity


def test_fields_in_another_order_start_alike(click_hours):
    """Default rows, class rows and rows of features are those of their field and key, wherever the field stands."""
    config = click_hours.config()
    turned = config.model_copy(update={"fields": config.fields[::-1]})
    fields = len(config.field_names)
    shared = [Original(each).table.vectors_VD.reshape(-1, fields, config.model.width) for each in (config, turned)]
    assert turned.field_names == config.field_names[::-1]
    assert np.array_equal(shared[0], shared[1][:, ::-1])
