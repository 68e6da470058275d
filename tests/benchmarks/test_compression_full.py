"""The methods that share the original's pass: what each serves and how many bytes it takes."""

from functools import partial

import numpy as np
import pytest

from benchmarks.compression.beside import SaecBeside
from benchmarks.compression.filtered import FilteredTable
from benchmarks.compression.full import FullTable, Quantiser, StoredTable, filtered, product_quantised, quantised
from benchmarks.compression.stretch import Stretch
from saec.hours import Hour


@pytest.fixture(scope="module")
def stretch(simulated, tmp_path_factory) -> Stretch:
    """Five simulated hours, the last scored."""
    stretch = Stretch(simulated.config(), simulated.hours[4], 5, 1, tmp_path_factory.mktemp("rows"))
    stretch.encode()
    return stretch


@pytest.fixture(scope="module")
def served(stretch):
    """Everybody after the last hour, by name, and the original."""
    stored = {
        "int8": partial(filtered, threshold=0.0),
        "fine": partial(product_quantised, quantiser=Quantiser(4, 4, 8)),
        "coarse": partial(product_quantised, quantiser=Quantiser(1, 1, 8)),
    }
    table = FullTable(stretch.config, original=True, stored=stored, saec={"saec": stretch.config})
    *earlier, last = stretch
    for given in earlier:
        table.learn(given)
    rows = len(table.original.table)
    return {one.name: one for one in table.serve(last)}, table, rows


def test_census_knows_the_sizes_before_anything_is_trained(stretch, served):
    """The original's bytes are those of its rows and keys before the hour: 4 numbers of 4 bytes and 8 of key a row."""
    found, _, rows = served
    assert found["original"].bytes == rows * 24 == stretch.census.original_bytes
    assert stretch.labels_B.shape == found["original"].scores_B.shape


def test_int8_rows_serve_as_the_original_does(served):
    """Rows of a byte a number and an index in place of keys: far smaller, scores hardly differ."""
    found, *_ = served
    assert found["int8"].bytes < 0.6 * found["original"].bytes
    assert np.abs(found["int8"].scores_B - found["original"].scores_B).mean() < 0.01


def test_finer_quantisation_is_larger_and_nearer(stretch, served):
    """More codes a row take more bytes and come nearer to the original's scores; codebooks are counted."""
    found, table, _ = served
    off = {name: np.abs(found[name].scores_B - found["original"].scores_B).mean() for name in ("fine", "coarse")}
    assert found["coarse"].bytes < found["fine"].bytes < found["original"].bytes
    assert off["fine"] < off["coarse"]
    stored = StoredTable(table.original, list(stretch)[-1])
    decoded_VD, codebook_bytes, codewords = quantised(stored, Quantiser(1, 1, 8))
    rows_N = table.original.vocabulary.row_V[table.original.vocabulary.fields_V == 0]
    assert len(np.unique(decoded_VD[rows_N[rows_N >= 0]], axis=0)) == 2
    assert codebook_bytes == (codewords - 6 - 1) * (4 + 2)


def test_saec_is_scored_from_its_files(served):
    """Saec takes part in the original's pass, with vectors, bytes and the paper's ratio of its own."""
    found, *_ = served
    assert found["saec"].bytes < found["original"].bytes
    assert found["saec"].ratio_embedding > 1 < found["saec"].ratio_vectors
    assert 0 < found["saec"].scores_B.min() < found["saec"].scores_B.max() < 1


def test_an_hour_that_is_scored_is_learnt_as_another(stretch, monkeypatch):
    """Its newcomers are no more known to Saec than in the pipeline, which admits them once."""
    news: dict[bool, list[int]] = {True: [], False: []}
    for scored, given_rows in news.items():

        def watch(_saec, _original, at_cut, _scores_B, _given, given_rows=given_rows):
            given_rows.append(int(at_cut.given_U.sum()))

        monkeypatch.setattr(SaecBeside, "learn", watch)
        monkeypatch.setattr(SaecBeside, "serve", lambda *_: None)
        table = FullTable(stretch.config, original=True, saec={"saec": stretch.config})
        for given in stretch:
            if scored:
                list(table.serve(given))
            table.learn(given)
    assert news[True] == news[False]
    assert max(news[True]) > 0


def test_filter_from_the_start_stores_what_is_frequent(stretch):
    """A higher threshold leaves fewer rows and bytes, at last the default rows alone."""
    found = []
    for threshold in (0.0, 8.0, 1e9):
        table = FilteredTable("filtered", stretch.config, threshold)
        *earlier, last = stretch
        for given in earlier:
            table.learn(given)
        found.append(next(table.serve(last)))
    assert found[0].bytes > found[1].bytes > found[2].bytes >= 7 * (4 + 2)
    assert len({tuple(one.scores_B) for one in found}) == 3


def test_only_the_last_hours_are_scored(stretch):
    """Hours come in order with their cut; the scored ones are the last."""
    hours = list(stretch)
    assert [given.hour for given in hours] == [Hour(stretch.last.index - 4 + number) for number in range(5)]
    assert [given.scored for given in hours] == [False] * 4 + [True]
    assert all(0 < given.cut < len(given.rows) for given in hours)
