"""Fields are means of their slots' vectors, and gradients find their way back to every vector exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saec.train.batches import Pooling, Touched
from tests.properties import examples

LISTS = Pooling.of((0, 1, 1, 1, 2, 3, 3))
ONE_EACH = Pooling.of((0, 1, 2))
LAYOUTS = {"one slot a field": ONE_EACH, "list fields": LISTS}


def a_batch(pooling, rows=13, vectors=9, seed=1):
    """Places with repeats within rows and fields, padding in the list fields, and the vectors they point at."""
    draw = np.random.default_rng(seed)
    places_BS = draw.integers(0, vectors, (rows, len(pooling.slot_fields)))
    if not pooling.trivial:
        padded_BS = draw.random(places_BS.shape) < 0.4
        padded_BS[:, [0, 4]] = False  # fields 0 and 2 have one slot
        places_BS[padded_BS] = -1
    return torch.from_numpy(places_BS), torch.from_numpy(draw.standard_normal((vectors, 5)).astype(np.float32))


def mean_of_rows(pooling, vectors_UD, places_BS):
    """Field vectors the plain way, one row and field at a time, through autograd."""
    slot_fields_S = np.array(pooling.slot_fields)
    rows = []
    for places_S in places_BS.numpy():
        for field in range(pooling.fields):
            used = places_S[(slot_fields_S == field) & (places_S >= 0)]
            rows.append(vectors_UD[used].mean(0) if len(used) else torch.zeros(vectors_UD.shape[1]))
    return torch.stack(rows).view(len(places_BS), pooling.fields, -1)


@pytest.mark.parametrize("pooling", LAYOUTS.values(), ids=LAYOUTS)
def test_field_vectors_are_means_of_the_used_slots(pooling):
    """Gathered field vectors equal the mean over each row's used slots; a field of nothing but padding is zero."""
    places_BS, vectors_UD = a_batch(pooling)
    torch.testing.assert_close(pooling.gather(vectors_UD, places_BS), mean_of_rows(pooling, vectors_UD, places_BS))


@pytest.mark.parametrize("pooling", LAYOUTS.values(), ids=LAYOUTS)
def test_gradients_are_those_of_autograd(pooling):
    """Summed gradients equal autograd's through the plain means, vector by vector, and no other vector has one."""
    places_BS, vectors_UD = a_batch(pooling, vectors=40)
    gradient_BFD = torch.randn(len(places_BS), pooling.fields, 5, generator=torch.Generator().manual_seed(2))
    vectors_UD.requires_grad_()
    mean_of_rows(pooling, vectors_UD, places_BS).backward(gradient_BFD)
    touched = Touched.of((places_BS,), pooling)
    assert touched.places_N.tolist() == sorted(set(places_BS[places_BS >= 0].tolist()))
    torch.testing.assert_close(touched.sum(gradient_BFD), vectors_UD.grad[touched.places_N])
    others = np.setdiff1d(np.arange(40), touched.places_N)
    assert len(others) > 0
    assert not vectors_UD.grad[others].any()


@pytest.mark.parametrize("pooling", LAYOUTS.values(), ids=LAYOUTS)
def test_parts_are_summed_as_each_alone(pooling):
    """Of parts that share no vector, each vector's gradient is what the part alone would give it, bit for bit."""
    first_BS, _ = a_batch(pooling)
    second_BS = torch.where(first_BS < 0, first_BS, first_BS.flip(0).clamp_min(0) + 1000)
    gradient_BFD = torch.randn(len(first_BS), pooling.fields, 5, generator=torch.Generator().manual_seed(2))
    both = Touched.of((first_BS, second_BS), pooling)
    alone = [Touched.of((part_BS,), pooling) for part_BS in (first_BS, second_BS)]
    assert torch.equal(both.places_N, torch.cat([touched.places_N for touched in alone]))
    assert torch.equal(both.sum(gradient_BFD), torch.cat([touched.sum(gradient_BFD) for touched in alone]))


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(*[st.integers(-1, 3)] * 3), min_size=1, max_size=8))
def test_any_padding(rows):
    """Whatever is padded, even everything, a cell counts its share once: the shares of a used field add up to one."""
    pooling = Pooling.of((0, 0, 1))
    places_BS = torch.tensor(rows)
    touched = Touched.of((places_BS,), pooling)
    ones_BFD = torch.ones(len(rows), 2, 1)
    used_fields = int((places_BS[:, :2] >= 0).any(1).sum() + (places_BS[:, 2] >= 0).sum())
    assert -1 not in touched.places_N
    assert float(touched.sum(ones_BFD).sum()) == pytest.approx(used_fields)


def test_a_large_place_keeps_apart():
    """Places beyond 2^31 and their cells share one sort key without mixing."""
    places_BS = torch.tensor([[2**31 - 2, 0], [2**31 - 1, 2**31 - 2]])
    touched = Touched.of((places_BS,), Pooling.of((0, 1)))
    assert touched.places_N.tolist() == [0, 2**31 - 2, 2**31 - 1]
    assert touched.field_vectors_C.tolist() == [1, 0, 3, 2]


def test_list_fields_do_not_depend_on_where_padding_stands():
    """Moving padding among a field's slots changes nothing."""
    pooling = Pooling.of((0, 0, 0))
    vectors_UD = torch.arange(8.0).view(4, 2)
    front, back = (pooling.gather(vectors_UD, torch.tensor([row])) for row in ([-1, 3, 1], [3, 1, -1]))
    assert torch.equal(front, back)
    assert front.flatten().tolist() == [4.0, 5.0]
