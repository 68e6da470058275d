"""Encoded rows: saved equals loaded, damage is seen, and the cut never splits an instant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from saec.data.rows import EncodedRows
from saec.errors import IntegrityError
from tests.properties import examples


def rows_at(times: list[int]) -> EncodedRows:
    """Rows at some times, with 3 slots of big keys."""
    count = len(times)
    keys = np.random.default_rng(0).integers(0, 2**64, (count, 3), np.uint64)
    return EncodedRows(np.arange(count, dtype=np.uint8) % 2, np.array(times, np.int64), keys)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_saved_equals_loaded(tmp_path, count):
    """What was saved comes back, verified, and saving it again gives the same bytes."""
    rows = rows_at([-5 + 3 * index for index in range(count)])
    sha256 = rows.save(tmp_path / "rows.safetensors")
    back = EncodedRows.load(tmp_path / "rows.safetensors", sha256)
    for name in ("labels_B", "times_B", "keys_BS"):
        found, wanted = getattr(back, name), getattr(rows, name)
        assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())
    assert back.save(tmp_path / "again.safetensors") == sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "rows.safetensors"]


def test_strided_keys_are_saved_whole(tmp_path):
    """Keys that lie column by column in memory are saved row by row."""
    rows = rows_at(list(range(10)))
    strided = EncodedRows(rows.labels_B, rows.times_B, np.asfortranarray(rows.keys_BS))
    assert strided.save(tmp_path / "a") == rows.save(tmp_path / "b")


def test_damage_is_seen(tmp_path):
    """A flipped bit, a missing file and a cut file are integrity errors that name the file."""
    path = tmp_path / "rows.safetensors"
    sha256 = rows_at([1, 2, 3]).save(path)
    data = path.read_bytes()
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"rows\.safetensors have sha256"):
            EncodedRows.load(path, sha256)
    with pytest.raises(IntegrityError, match="not safetensors"):
        EncodedRows.load(path)
    path.unlink()
    with pytest.raises(IntegrityError, match="not there"):
        EncodedRows.load(path, sha256)


@pytest.mark.parametrize(
    "change",
    [
        {"labels_B": np.zeros(2, np.uint8)},
        {"keys_BS": np.zeros((3, 2), np.int64)},
        {"keys_BS": np.zeros(3, np.uint64)},
        {"more": np.zeros(3)},
    ],
)
def test_other_tensors_are_refused(tmp_path, change):
    """A safetensors file of other names, types or shapes holds no encoded rows."""
    rows = rows_at([1, 2, 3])
    tensors = {"labels_B": rows.labels_B, "times_B": rows.times_B, "keys_BS": rows.keys_BS, **change}
    (tmp_path / "rows").write_bytes(save(tensors))
    with pytest.raises(IntegrityError, match="wanted labels_B uint8"):
        EncodedRows.load(tmp_path / "rows")


@pytest.mark.parametrize(
    ("times", "share", "wanted"),
    [
        (list(range(10)), 0.3, 7),
        (list(range(10)), 0.001, 9),
        (list(range(10)), 0.999, 1),
        ([0, 0, 0, 0, 0, 0, 1, 1, 1, 9], 0.3, 6),
        ([0, 0, 0, 0, 0, 0, 1, 1, 1, 9], 0.15, 9),
        ([0, 1, 1, 1, 1], 0.2, 1),
        ([1, 1, 1, 1, 2], 0.9, 4),
        ([4, 4, 4], 0.3, 3),
        ([4], 0.3, 1),
        ([], 0.3, 0),
        ([4, 5], 0.9, 1),
    ],
)
def test_cut(times, share, wanted):
    """The cut is the instant nearest to the share with rows on both sides; without one, all are train rows."""
    assert rows_at(times).cut(share) == wanted


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_no_instant_is_on_both_sides(times, share):
    """Train rows end before gate rows begin, and no other such cut is nearer to the share."""
    times = sorted(times)
    cut = rows_at(times).cut(share)
    possible = [index for index in range(1, len(times)) if times[index - 1] < times[index]]
    assert cut in (possible or [len(times)])
    wanted = min(max(round(len(times) * (1 - share)), 1), len(times) - 1)
    assert abs(cut - wanted) == min((abs(index - wanted) for index in possible), default=abs(cut - wanted))
