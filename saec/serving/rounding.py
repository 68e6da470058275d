"""Rounds and packs the network for storage: multiples of one step per parameter, in a Huffman code.

Decisions:
- Most numbers of a network are the weights of its inner layers, and what it scores depends on none of them alone: they
  are rounded to half of their root mean square (`compression.network_precision` steps), about three bits each, at no
  loss that can be measured (docs/LOG.md). Biases, first order and layers of one output are few and act on every score:
  they keep 127 steps either way.
- Multiples cluster around zero, so a code of variable length takes a quarter less than as many bits for all of them;
  zlib has one, and is there in every language. A step a parameter is as good as one a row, and fewer bytes.
- Rounding comes before the gate: what is judged is what `restored` gives, and so is what others may compute with
  (`as_served`).

Shapes: P parameters, N numbers of all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]

_MOST = 127
"""Most steps away from zero."""


def rounded(parameters: Arrays, precision: float) -> dict[str, NDArray[Any]]:
    """The tensors to store of a network.

    Args:
        parameters: float32 arrays by name, all finite.
        precision: steps that the root mean square of a layer's weights is divided into.

    Returns:
        `steps_P` (float32, one a parameter in the order of their names) and `packed` (uint8: all multiples in that
        order, a signed byte each, as a zlib stream).
    """
    names = sorted(parameters)
    steps_P = np.array([_step(name, parameters[name], precision) for name in names], np.float32)
    multiples_N = np.concatenate(
        [_multiples(parameters[name], step) for name, step in zip(names, steps_P, strict=True)]
    )
    coder = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY, memLevel=9)
    packed = coder.compress(multiples_N.tobytes()) + coder.flush()
    return {"steps_P": steps_P, "packed": np.frombuffer(packed, np.uint8)}


def restored(tensors: Arrays, shapes: Shapes) -> dict[str, NDArray[np.float32]]:
    """The parameters that were stored, as all who serve them have them.

    Args:
        tensors: what `rounded` gave; it may come from anywhere.
        shapes: names and shapes of the parameters wanted.

    Raises:
        ValueError: saying why these tensors do not hold such parameters, all finite.
    """
    if {name: (array.dtype.str, array.ndim) for name, array in tensors.items()} != _STORED:
        raise ValueError(f"wants tensors steps_P (float32 [P]) and packed (uint8), has {sorted(tensors)!r:.200}")
    names, steps_P = sorted(shapes), tensors["steps_P"]
    sizes_P = [_size(shapes[name]) for name in names]
    if len(steps_P) != len(names):
        raise ValueError(f"has {len(steps_P)} network parameters, wanted {len(names)}")
    multiples_N = np.frombuffer(_unpacked(tensors["packed"], sum(sizes_P)), np.int8)
    parts = np.split(multiples_N, np.cumsum(sizes_P)[:-1])
    with np.errstate(over="ignore", invalid="ignore"):
        parameters = {
            name: (part.astype(np.float32) * step).reshape(shapes[name])
            for name, part, step in zip(names, parts, steps_P, strict=True)
        }
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise ValueError(f"has network parameter {name!r} that is not finite")
    return parameters


def as_served(parameters: Arrays, precision: float) -> dict[str, NDArray[np.float32]]:
    """Parameters as they are once stored and read back: exactly those that score in serving."""
    return restored(rounded(parameters, precision), {name: values.shape for name, values in parameters.items()})


_STORED = {"steps_P": ("<f4", 1), "packed": ("|u1", 1)}


def _step(name: str, values: NDArray[Any], precision: float) -> float:
    """The step of a parameter; no number is more than `_MOST` steps from zero."""
    smallest = float(np.abs(values).max()) / _MOST
    if name.endswith(".weight") and len(values) > 1:
        return max(smallest, float(np.sqrt(np.square(values, dtype=np.float64).mean())) / precision)
    return smallest


def _multiples(values: NDArray[Any], step: np.float32) -> NDArray[np.int8]:
    """How many steps each number is, to the nearest."""
    if step == 0:  # of numbers that are nothing, or too small for a float's step
        return np.zeros(values.size, np.int8)
    return np.rint(values.reshape(-1) / step).clip(-_MOST, _MOST).astype(np.int8)


def _unpacked(packed: NDArray[np.uint8], count: int) -> bytes:
    """The bytes of a zlib stream; never more than one above the count, so a small file cannot fill the memory."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(packed.tobytes(), count + 1)
    except zlib.error as error:
        raise ValueError(f"has network parameters that cannot be unpacked ({error})") from None
    if len(found) != count or not stream.eof or stream.unused_data:
        raise ValueError(f"does not have the {count:,} numbers of network parameters that the schema wants")
    return found


def _size(shape: tuple[int, ...]) -> int:
    """Numbers of a parameter; in Python's integers, which do not overflow."""
    size = 1
    for axis in shape:
        size *= axis
    return size
