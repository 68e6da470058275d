"""One ratio of bytes, from which the sizes of head and codebooks follow: what is allowed, and what is written."""

from itertools import pairwise

import numpy as np
import pytest

from saec.compression.artifact import compression_figures, write_artifact
from saec.compression.challenger import Challenger
from saec.compression.codebooks import Centroids, Codebooks
from saec.compression.codes import Standards
from saec.compression.dial import FIRST_RATIO, SMALLEST, Allowance, features_within, original_bytes, warmed
from saec.compression.index import RetrievalIndex
from saec.config import CompressionConfig

ROWS = 100_000
RATIOS = [1.0, 5.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 1e6]


def config_of(click_hours, width=16, **compression):
    """Three fields of a realistic width."""
    return click_hours.config(model={"width": width, "hidden": [8]}, compression=compression)


def test_bytes_of_an_original_are_rows_and_keys(click_hours):
    """Sixteen numbers of four bytes and a key of eight."""
    assert original_bytes(config_of(click_hours), 10) == 10 * 72


@pytest.mark.parametrize("precision", ["int4", "int8", "float16"])
def test_a_larger_ratio_allows_less(click_hours, precision):
    """Neither features nor codewords ever grow with the ratio, and features do shrink till the table is tiny."""
    config = config_of(click_hours, codebook_precision=precision)
    allowed = [Allowance.of(config, ROWS, ratio) for ratio in RATIOS]
    for more, less in pairwise(allowed):
        assert less.codewords <= more.codewords
        assert less.features <= more.features
    assert len({allowance.features for allowance in allowed}) >= 8


def test_more_rows_allow_more(click_hours):
    """The same ratio of a larger original."""
    config = config_of(click_hours)
    allowed = [Allowance.of(config, rows, 100.0).features for rows in (20_000, 50_000, 100_000, 10**6)]
    assert allowed == sorted(set(allowed))


def test_codewords_are_one_less_than_a_power_of_two(click_hours):
    """With the newcomers' code every value of the index's bits has a meaning; 255 at most, 1 at least."""
    config = config_of(click_hours)
    found = {Allowance.of(config, rows, ratio).codewords for rows in (100, ROWS, 10**7) for ratio in RATIOS}
    assert found <= {1, 3, 7, 15, 31, 63, 127, 255}
    assert {31, 255} <= found


def test_codewords_take_an_eighth_at_most(click_hours):
    """Unless one codeword a field is more than that already."""
    config = config_of(click_hours)
    for ratio in RATIOS:
        codewords = Allowance.of(config, ROWS, ratio).codewords
        share = 3 * codewords * 10 / max(original_bytes(config, ROWS) / ratio, SMALLEST)
        assert share <= 1 / 8
        assert share > 1 / 16 - 0.01 or codewords == 255


@pytest.mark.parametrize("codewords", [2, 100, 4095])
def test_codewords_can_be_set(click_hours, codewords):
    """As many as are asked for, whatever the ratio; the head has the bytes that they leave."""
    config = config_of(click_hours, codewords=codewords)
    allowed = [Allowance.of(config, ROWS, ratio) for ratio in RATIOS]
    assert {allowance.codewords for allowance in allowed} == {codewords}
    assert allowed[4].features < Allowance.of(config_of(click_hours, codewords=1), ROWS, RATIOS[4]).features
    assert allowed[-1].features >= 0


def test_small_tables_are_not_compressed_further(click_hours):
    """Below 8 KiB the ratio changes nothing."""
    config = config_of(click_hours)
    assert Allowance.of(config, 500, 100.0) == Allowance.of(config, 500, 1e9) == Allowance.of(config, 4, 1.0)
    assert Allowance.of(config, 500, 100.0).features > 1000


def test_features_within_bytes():
    """None in no bytes, more in more, and never more than one a cell."""
    found = [features_within(size, 12) for size in (-100.0, 0.0, 100.0, 1e3, 1e4, 1e5, 1e6)]
    assert found[:2] == [0, 0]
    assert found[2:] == sorted(set(found[2:]))
    assert found[-1] < 8 * 1e6 / 12 / 1.035


@pytest.mark.parametrize("keys", [1_000, 10_000, 50_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_an_index_takes_the_room_that_was_foreseen(keys):
    """As many keys as are said to go into some bytes make an index of that size: within one and a half per cent."""
    built = RetrievalIndex.build(
        np.arange(1, keys + 1, dtype=np.uint64), np.zeros(keys, np.int64), code_bits=5, fingerprint_bits=6
    )
    assert features_within(built.cells * 11 / 8, 11) == pytest.approx(keys, rel=0.015)


def written_ratio(config, folder, ratio):
    """The ratio of bytes on disk when head and codebooks are as large as is allowed; and how large the head is."""
    rng = np.random.default_rng(7)
    allowance = Allowance.of(config, ROWS, ratio)
    challenger = Challenger(config)
    centroids = Centroids.joined([rng.normal(size=(allowance.codewords, 16)).astype(np.float32)] * 3)
    start = vars(Standards.start(3, 16))
    challenger.standards = Standards(**{**start, "centroids": centroids})
    challenger.codebooks = Codebooks.start(np.zeros((3, 16), np.float32), centroids)
    keys_H = rng.choice(2**62, allowance.features, replace=False).astype(np.uint64) + np.uint64(1)
    codes_H = rng.integers(1, allowance.codewords + 2, allowance.features).astype(np.int16)
    sizes = write_artifact(folder, challenger, keys_H, codes_H)
    figures = compression_figures(ROWS, 16, 0, centroids.codewords, allowance.features, 5, sizes)
    return figures["ratio_total"], allowance.features


@pytest.mark.parametrize(
    ("ratio", "compression"),
    [
        (100.0, {}),
        (200.0, {}),
        (50.0, {}),
        (200.0, {"codebook_precision": "float16"}),
        (100.0, {"fingerprint_bits": 16}),
        (150.0, {"codewords": 100}),
    ],
)
def test_files_meet_the_ratio(click_hours, tmp_path, ratio, compression):
    """Bytes of index and codebooks on disk, headers and all, against rows and keys: within one and a half per cent."""
    found, head = written_ratio(config_of(click_hours, **compression), tmp_path, ratio)
    assert head > 8_000
    assert found == pytest.approx(ratio, rel=0.015)


@pytest.mark.parametrize(("periods", "wanted"), [(0, 25.0), (1, 50.0), (1.5, 25 * 2**1.5), (3, 200.0), (999, 200.0)])
def test_a_young_pipeline_is_compressed_less(periods, wanted):
    """The ratio doubles every so many hours till it is the one asked for; a small one holds from the start."""
    compression = CompressionConfig(doubling_hours=12)
    hours = int(periods * 12)
    assert warmed(compression, 200.0, hours) == pytest.approx(wanted)
    assert warmed(compression, 10.0, hours) == 10.0
    assert warmed(compression, FIRST_RATIO, hours) == FIRST_RATIO


def test_without_doubling_the_first_hour_is_compressed_fully():
    """Whoever starts with a large table need not wait."""
    assert warmed(CompressionConfig(doubling_hours=0), 200.0, 0) == 200.0
