"""The network's rounding: as fine as asked, read back as it is served, and nothing else is read."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.serving.rounding import as_served, restored, rounded

SHAPES = {
    "bias": (),
    "deep.0.weight": (40, 30),
    "deep.0.bias": (40,),
    "deep.2.weight": (1, 40),
    "first_order_FD": (5, 6),
}


def parameters(seed: int = 0, scale: float = 0.1) -> dict[str, np.ndarray]:
    """Parameters of any network."""
    draw = np.random.default_rng(seed)
    return {name: np.asarray(draw.normal(scale=scale, size=shape), np.float32) for name, shape in SHAPES.items()}


def packed(multiples: np.ndarray) -> np.ndarray:
    """Multiples as they are stored."""
    return np.frombuffer(zlib.compress(multiples.astype(np.int8).tobytes()), np.uint8)


@pytest.mark.parametrize("precision", [1.0, 2.0, 5.0, 32.0])
def test_a_layer_is_rounded_to_a_share_of_its_size(precision):
    """No weight of an inner layer is off by more than half a step, and the step is what was asked for, or 1/127."""
    given_ = parameters()
    served = as_served(given_, precision)
    wide = given_["deep.0.weight"]
    step = max(np.sqrt(np.square(wide).mean()) / precision, np.abs(wide).max() / 127)
    off = np.abs(served["deep.0.weight"] - wide).max()
    assert 0.4 * step < off < 0.501 * step


def test_what_acts_on_every_score_keeps_127_steps():
    """Biases, first order and the layer of one output, whatever the precision."""
    given_ = parameters()
    served = as_served(given_, 1.0)
    for name in SHAPES.keys() - {"deep.0.weight"}:
        assert np.abs(served[name] - given_[name]).max() <= 0.51 * np.abs(given_[name]).max() / 127


def test_coarser_steps_take_fewer_bytes():
    """Two steps a root mean square take about three bits a weight, one step about two."""
    wide = {"deep.0.weight": np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)}
    sizes = [8 * rounded(wide, precision)["packed"].size / 60_000 for precision in (1.0, 2.0, 4.0)]
    assert sizes == pytest.approx([2.2, 3.1, 4.1], abs=0.1)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-45, 1e-30, 1.0, 1e30]), st.floats(1.0, 32.0))
def test_storing_what_was_read_changes_nothing_that_is_read(seed, scale, precision):
    """Rounding is exact for what is already a multiple with the same step; every number is finite and of its shape."""
    tensors = rounded(parameters(seed, scale), precision)
    served = restored(tensors, SHAPES)
    assert {name: values.shape for name, values in served.items()} == SHAPES
    assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in served.values())
    again = restored({name: array.copy() for name, array in tensors.items()}, SHAPES)
    assert all(np.array_equal(served[name], again[name]) for name in SHAPES)


def test_the_same_network_gives_the_same_bytes():
    """In whatever order its parameters come."""
    given_ = parameters()
    first, second = rounded(given_, 2.0), rounded(dict(reversed(given_.items())), 2.0)
    assert all(first[name].tobytes() == second[name].tobytes() for name in ("steps_P", "packed"))


def test_zeros_stay_zeros():
    """A layer of nothing has no step."""
    served = as_served({"deep.0.weight": np.zeros((2, 3), np.float32)}, 2.0)
    assert not served["deep.0.weight"].any()


def test_one_large_weight_does_not_overflow():
    """A weight of hundreds of root mean squares makes the step larger."""
    wide = np.ones((100, 100), np.float32)
    wide[3, 4] = -1e6
    served = as_served({"deep.0.weight": wide}, 2.0)["deep.0.weight"]
    assert served[3, 4] == pytest.approx(-1e6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps_P": np.ones(4, np.float32)}, "4 network parameters"),
        ({"steps_P": np.ones(5, np.float64)}, "wants tensors"),
        ({"steps_P": np.ones((5, 1), np.float32)}, "wants tensors"),
        ({"steps_P": np.full(5, np.nan, np.float32)}, "not finite"),
        ({"steps_P": np.full(5, 3e38, np.float32)}, "not finite"),
        ({"packed": np.zeros(0, np.uint8)}, "numbers"),
        ({"packed": np.zeros((2, 2), np.uint8)}, "wants tensors"),
        ({"packed": np.full(50, 7, np.uint8)}, "unpacked"),
        ({"packed": packed(np.zeros(1310))}, "1,311 numbers"),
        ({"packed": packed(np.zeros(1312))}, "1,311 numbers"),
        ({"packed": packed(np.zeros(10**7))}, "1,311 numbers"),
        ({"packed": np.concatenate([packed(np.ones(1311)), packed(np.ones(1))])}, "1,311 numbers"),
        ({"packed": packed(np.ones(1311))[:-1]}, "1,311 numbers"),
        ({"more": np.zeros(1, np.uint8)}, "wants tensors"),
    ],
)
def test_tensors_of_no_such_network_are_refused(changed, message):
    """Other types and sizes, too few or too many numbers, a stream cut short, steps that are not finite."""
    with pytest.raises(ValueError, match=message):
        restored(rounded(parameters(), 2.0) | changed, SHAPES)


def test_a_flipped_bit_is_noticed():
    """The stream has a checksum of its own."""
    tensors = rounded(parameters(), 2.0)
    damaged = tensors["packed"].copy()
    damaged[-1] ^= 1
    with pytest.raises(ValueError, match="unpacked"):
        restored({**tensors, "packed": damaged}, SHAPES)
