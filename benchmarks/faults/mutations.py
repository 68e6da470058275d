"""Damages files in ways drawn from a seed: the same number always gives the same damage.

Decisions: most are blind (bits, bytes, cuts, moves), because disks, copies and networks are; each is one of a kind of
its own, drawn with equal chance, so that rare kinds are seen too. A mutation that leaves the bytes as they were is
drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

Draw = np.random.Generator
Mutation = Callable[[bytearray, Draw], None]


def place(data: bytearray, draw: Draw) -> int:
    """Somewhere in the file; one time in two near its end, where a footer or the last tensor is."""
    start = max(0, len(data) - len(data) // 4) if draw.random() < 0.5 else 0
    return int(draw.integers(start, len(data)))


def stretch(data: bytearray, draw: Draw) -> slice:
    """A part of the file, from one byte to all of it, short ones as likely as long ones."""
    start = place(data, draw)
    length = int(len(data) ** draw.random())
    return slice(start, min(len(data), start + length))


def flip_bit(data: bytearray, draw: Draw) -> None:
    """One bit turned over."""
    data[place(data, draw)] ^= 1 << int(draw.integers(8))


def flip_bits(data: bytearray, draw: Draw) -> None:
    """Two to sixteen bits turned over."""
    for _ in range(int(draw.integers(2, 17))):
        flip_bit(data, draw)


def swap_bytes(data: bytearray, draw: Draw) -> None:
    """Two bytes exchanged."""
    one, other = place(data, draw), place(data, draw)
    data[one], data[other] = data[other], data[one]


def truncate(data: bytearray, draw: Draw) -> None:
    """The end cut off."""
    del data[place(data, draw) :]


def cut(data: bytearray, draw: Draw) -> None:
    """A part taken out; what follows moves up."""
    del data[stretch(data, draw)]


def insert(data: bytearray, draw: Draw) -> None:
    """Random bytes put in; what follows moves down."""
    start = place(data, draw)
    data[start:start] = draw.bytes(int(draw.integers(1, 65)))


def blank(data: bytearray, draw: Draw) -> None:
    """A part that reads as zeros, as a lost sector does."""
    part = stretch(data, draw)
    data[part] = bytes(part.stop - part.start)


def overwrite(data: bytearray, draw: Draw) -> None:
    """A part replaced by random bytes."""
    part = stretch(data, draw)
    data[part] = draw.bytes(part.stop - part.start)


def copy_part(data: bytearray, draw: Draw) -> None:
    """A part replaced by another part of the file, as a misdirected write does."""
    part = stretch(data, draw)
    start = int(draw.integers(0, len(data) - (part.stop - part.start) + 1))
    data[part] = data[start : start + part.stop - part.start]


def repeat(data: bytearray, draw: Draw) -> None:
    """A part written twice."""
    part = stretch(data, draw)
    data[part.stop : part.stop] = data[part]


def extend(data: bytearray, draw: Draw) -> None:
    """Bytes after the end."""
    data += draw.bytes(int(draw.integers(1, 4096)))


BLIND: tuple[Mutation, ...] = (
    flip_bit,
    flip_bits,
    swap_bytes,
    truncate,
    cut,
    insert,
    blank,
    overwrite,
    copy_part,
    repeat,
    extend,
)
"""Kinds of damage that know nothing of the file's format."""


def mutated(data: bytes, kinds: tuple[Mutation, ...], *seed: int) -> tuple[str, bytes]:
    """The damage that belongs to a seed: its kind, and the file after it."""
    draw = np.random.default_rng(seed)
    for _ in count():
        kind, changed = kinds[int(draw.integers(len(kinds)))], bytearray(data)
        kind(changed, draw)
        if changed != data:
            return kind.__name__, bytes(changed)
    raise AssertionError("unreachable")
