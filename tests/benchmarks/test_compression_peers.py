"""The peers of the compression benchmark: what they store, what it costs in bytes, and what they are served with."""

import numpy as np
import pytest
import torch

from benchmarks.compression.filtered import HeadVocabulary
from benchmarks.compression.hashed import Combined, HashedTable, Hashing, QuotientRemainder
from benchmarks.compression.stored import HeadIndex, as_int8, filtered_bytes, row_bytes
from benchmarks.compression.stretch import HourRows
from saec.config import Config, VocabularyConfig
from saec.data.hour_features import HourFeatures
from saec.data.rows import EncodedRows
from saec.hours import Hour

KEYS_N = np.random.default_rng(1).integers(1, 2**63, 5000).astype(np.uint64)
SETTINGS = {
    "data": {"source": "", "time_column": "event_time", "label_column": "clicked"},
    "fields": [{"name": "user"}, {"name": "item"}, {"name": "tags", "kind": "list", "max_values": 3}],
    "model": {"width": 4, "hidden": [8], "cross_layers": 1, "cross_rank": 4},
    "training": {"dense_learning_rate": 0.02},
}
HOUR = Hour.parse("2026-03-01T12")


def test_int8_rows_come_back_within_half_a_step():
    """A row's largest number is stored as 127: nothing is off by more than half a step, and zeros stay zeros."""
    vectors_ND = np.random.default_rng(2).standard_normal((50, 16)).astype(np.float32)
    vectors_ND[0] = 0.0
    off_ND = np.abs(as_int8(vectors_ND) - vectors_ND)
    assert (off_ND <= 0.51 * np.abs(vectors_ND).max(1, keepdims=True) / 127 + 127 * 1e-5).all()
    assert not as_int8(vectors_ND)[0].any()


def test_a_row_costs_its_numbers_and_a_scale():
    """16 numbers of a byte and a half-precision scale."""
    assert row_bytes(16) == 18


def test_planned_size_of_a_filter_is_near_the_real_one():
    """The size that thresholds are planned with is the real index' within 2%, values of 13 bits for 5,000 rows."""
    index = HeadIndex.build(KEYS_N, np.arange(5000), 8)
    real = index.bytes(13) + (5000 + 3) * 18
    assert index.bytes(13) == pytest.approx(5000 * 1.2 * (13 + 8) / 8, rel=0.05)
    assert filtered_bytes(5000, 16, 3, 8) == pytest.approx(real, rel=0.02)


def test_index_serves_rows_defaults_and_few_wrong_rows():
    """Indexed features get their row; of the others about one in 2^8 gets some indexed row, the rest their default."""
    index = HeadIndex.build(KEYS_N[:2000], 10 + np.arange(2000), 8)
    rows_U = np.concatenate([10 + np.arange(2000), 10 + np.arange(2000, 5000)])
    served_U = index.serve(KEYS_N, rows_U, np.full(5000, 4))
    assert (served_U[:2000] == rows_U[:2000]).all()
    wrong = served_U[2000:] != 4
    assert wrong.mean() == pytest.approx(1 / 256, abs=0.004)
    assert np.isin(served_U[2000:][wrong], index.rows_N).all()


def test_shared_hashing_fills_the_table_evenly():
    """Rows are within the table, the same for the same key, and no row gets many times its share."""
    layout = Hashing.shared(100, 2)
    rows_BS1 = layout.rows(KEYS_N.reshape(-1, 2))
    assert rows_BS1.shape == (2500, 2, 1)
    assert np.bincount(rows_BS1.ravel(), minlength=100).max() < 100
    assert (layout.rows(KEYS_N.reshape(-1, 2)) == rows_BS1).all()


def test_fields_of_their_own_never_share_rows():
    """Each field has a part; a field of three features has room for them, and all parts fit into the table."""
    features_F = np.array([3, 1000, 4000])
    layout = Hashing.by_field(600, features_F, np.array([0, 1, 2]))
    assert layout.sizes_S[0] == 12
    assert layout.sizes_S[2] > layout.sizes_S[1] > 100
    ends_S = layout.starts_S + layout.sizes_S
    assert (layout.starts_S[1:] == ends_S[:-1]).all()
    assert 590 <= ends_S[-1] <= 600


@pytest.mark.parametrize(("rows", "ids"), [(1000, 20_000), (1000, 10**9), (77, 500)])
def test_quotient_and_remainder_tell_ids_apart_within_the_table(rows, ids):
    """Two ids never share both rows, remainders and quotients have rows of their own, and none is beyond the table."""
    split = QuotientRemainder.within(rows, ids)
    assert split.ids == min(ids, (rows // 2) ** 2)
    rows_12 = split.rows(np.arange(min(split.ids, 50_000), dtype=np.uint64)[:, None])[:, 0]
    assert len(np.unique(rows_12, axis=0)) == len(rows_12)
    assert rows_12[:, 0].max() < split.remainders <= rows_12[:, 1].min()
    assert split.rows(np.array([[split.ids - 1]], np.uint64)).max() < rows


def test_two_vectors_are_added_or_multiplied_and_lists_averaged():
    """Fields of one and of two slots: a list field is the mean of its used slots, by sum and by product."""
    seen = []
    combined = {product: Combined(_Recording(seen), (0, 1, 1), product=product) for product in (False, True)}
    vectors_BXD = torch.tensor([[[2.0], [3.0], [1.0], [5.0], [4.0], [6.0]], [[2.0], [3.0], [1.0], [5.0], [0.0], [0.0]]])
    combined[False](vectors_BXD)
    combined[True](vectors_BXD)
    assert seen[0].squeeze(2).tolist() == [[5.0, 8.0], [5.0, 6.0]]
    assert seen[1].squeeze(2).tolist() == [[6.0, 14.5], [6.0, 5.0]]


def test_rare_features_use_the_default_row():
    """Below the threshold a feature has its field's default row, above it its own; unknown ones as ever."""
    vocabulary = HeadVocabulary(VocabularyConfig(admit_after=1), 2)
    keys_BS = np.array([[11, 21], [11, 22], [11, 23]], np.uint64)
    features = HourFeatures.of(keys_BS, np.array([0, 1]))
    vocabulary.observe(HOUR, features)
    vocabulary.threshold, vocabulary.now = 2.0, HOUR + 1
    first = vocabulary.shared
    assert vocabulary.admit(features).tolist() == [first, 1, 1, 1]
    vocabulary.threshold = 0.0
    assert sorted(vocabulary.rows_of(features).tolist()) == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize("combine", ["none", "sum", "product"])
def test_tables_without_keys_learn_what_is_there_to_learn(combine):
    """One item is always clicked, the other never: soon they are told apart. A row of 4 numbers takes 6 bytes."""
    config = Config.model_validate(SETTINGS)
    slots = len(config.slot_fields)
    layout = Hashing.shared(64, slots) if combine == "none" else QuotientRemainder.within(64, 900)
    table = HashedTable("peer", config, 64, layout, combine=combine)
    for offset in range(30):
        given = _clicked_by_item(HOUR + offset, slots)
        table.learn(given)
    (served,) = table.serve(given)
    labels_B = given.rows.labels_B
    assert served.bytes == 64 * (4 + 2)
    assert served.scores_B[labels_B == 1].min() > served.scores_B[labels_B == 0].max()


def _clicked_by_item(hour, slots):
    labels_B = np.random.default_rng(hour.index).integers(0, 2, 400).astype(np.uint8)
    keys_BS = np.tile(np.arange(1, slots + 1, dtype=np.uint64) * np.uint64(2654435761), (400, 1))
    keys_BS[:, 1] += labels_B
    keys_BS[:, 4] = 0  # padding of the list field
    return HourRows(hour, EncodedRows(labels_B, np.arange(400), keys_BS), 280, scored=True)


class _Recording(torch.nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, vectors_BFD):
        self.seen.append(vectors_BFD)
        return vectors_BFD.sum((1, 2))
