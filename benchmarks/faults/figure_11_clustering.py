"""Degenerate clustering inputs: each ends in a sound codebook, or in an error that names the field.

Decisions: forty inputs, of faults 55 to 60. A sound codebook has as many codewords as asked for, or as distinct vectors
where these are fewer; all of them finite; each used by some vector; every code inside it; and the same bytes when drawn
again. Where the distinct vectors are no more than the codewords they are kept exactly, and last hour's codewords, whose
number is their meaning, may wait unused. Cold and warm starts, clusters that nothing is near any more, weights of zero
and of a billion are among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Figures
from saec.compression.clustering import LARGEST, assign, cluster
from saec.compression.index import RetrievalIndex
from saec.errors import TrainingError

Vectors = NDArray[np.float32]
FIELD = "site_domain"


@dataclass(frozen=True)
class Case:
    """An input and how it must end."""

    name: str
    vectors_ND: Vectors
    codewords: int
    refused: bool = False
    weights_N: NDArray[np.float32] | None = None
    start_KD: Vectors | None = None

    def ends_well(self) -> bool:
        """Whether it ends as it must, twice alike."""
        try:
            drawn, again = self.draw(), self.draw()
        except TrainingError as error:
            return self.refused and error.reason == "non-finite" and repr(FIELD) in str(error)
        return not self.refused and drawn.tobytes() == again.tobytes() and self.sound(drawn)

    def draw(self) -> Vectors:
        """The codebook."""
        weights_N = np.ones(len(self.vectors_ND), np.float32) if self.weights_N is None else self.weights_N
        return cluster(self.vectors_ND, weights_N, self.codewords, start_KD=self.start_KD, seed=1, field=FIELD)

    def sound(self, centroids_KD: Vectors) -> bool:
        """Whether a codebook is what was asked for."""
        distinct = len(np.unique(self.vectors_ND, axis=0))
        fewest, count = min(self.codewords, distinct), len(centroids_KD)
        waits = self.start_KD is not None and distinct <= self.codewords  # last hour's codewords keep their places
        if not (count == fewest or (waits and fewest <= count <= self.codewords)):
            return False
        if not distinct:
            return True
        codes_N, errors_N = assign(self.vectors_ND, centroids_KD)
        inside = codes_N.min() >= 0 and codes_N.max() < count
        every = len(np.unique(codes_N)) == fewest
        exact = distinct > self.codewords or not errors_N.any()
        return bool(np.isfinite(centroids_KD).all() and inside and every and exact)


def normal(seed: int, rows: int, width: int = 4) -> Vectors:
    """Vectors drawn at random."""
    return np.random.default_rng([seed, rows, width]).normal(size=(rows, width)).astype(np.float32)


def spoilt(seed: int, value: float, places: int) -> Vectors:
    """Vectors some of whose numbers are this value."""
    vectors_ND = normal(seed, 50)
    vectors_ND[:places, 1] = value
    return vectors_ND


def too_few(seed: int) -> Iterator[Case]:
    """55: more codewords than vectors."""
    for rows, codewords in ((0, 3), (1, 1), (1, 255), (2, 3), (7, 8), (7, 7), (8, 7), (300, 4095)):
        yield Case(f"{codewords} codewords of {rows} vectors", normal(seed, rows), codewords)
    yield Case("more codewords, warm", normal(seed, 5), 9, start_KD=normal(seed + 1, 3))
    yield Case("no vectors, warm", normal(seed, 0), 3, start_KD=normal(seed + 1, 3))


def alike(seed: int) -> Iterator[Case]:
    """56: fewer distinct vectors than codewords, or hardly more."""
    for distinct, rows, codewords in ((1, 100, 10), (3, 100, 10), (10, 1000, 10), (11, 1000, 10), (2, 5000, 255)):
        chosen = np.random.default_rng([seed, rows]).integers(0, distinct, rows)
        chosen[:distinct] = np.arange(distinct)
        name = f"{rows} vectors, {distinct} distinct, {codewords} codewords"
        yield Case(name, normal(seed, distinct)[chosen], codewords)
    yield Case("all zero", np.zeros((100, 4), np.float32), 10)
    yield Case("zeros of both signs", np.tile(np.array([[0.0], [-0.0]], np.float32), (50, 4)), 10)
    yield Case("all alike, warm", np.ones((100, 4), np.float32), 10, start_KD=normal(seed, 10))
    yield Case("one far, others alike", np.vstack([np.zeros((99, 4)), np.full((1, 4), 1e6)]).astype(np.float32), 2)
    yield Case("one number wide", normal(seed, 200, 1), 16)


def not_finite(seed: int) -> Iterator[Case]:
    """57 and 58: what training that diverged leaves."""
    for value, places in ((np.nan, 1), (np.nan, 50), (np.inf, 1), (-np.inf, 3), (1e30, 1), (-1e30, 50), (3e38, 2)):
        yield Case(f"{places} numbers of {value}", spoilt(seed, value, places), 5, refused=True)
    yield Case("NaN, warm", spoilt(seed, np.nan, 1), 5, refused=True, start_KD=normal(seed, 5))
    yield Case(
        "NaN in a weight",
        normal(seed, 50),
        5,
        refused=True,
        weights_N=np.where(np.arange(50) == 7, np.nan, 1).astype(np.float32),
    )
    yield Case(
        "a weight below nothing",
        normal(seed, 50),
        5,
        refused=True,
        weights_N=np.where(np.arange(50) == 7, -1, 1).astype(np.float32),
    )
    yield Case("as large as may be", (normal(seed, 50).clip(-1, 1) * LARGEST).astype(np.float32), 5)
    yield Case("as small as float32 can square", normal(seed, 50) * np.float32(1e-15), 5)


def emptied(seed: int) -> Iterator[Case]:
    """59: clusters that nothing is near any more, weights that leave them nothing."""
    vectors_ND = normal(seed, 400)
    far_KD = normal(seed + 1, 8)
    far_KD[3:] += 1e4
    yield Case("five of eight clusters left alone", vectors_ND, 8, start_KD=far_KD)
    yield Case("all clusters in one place", vectors_ND, 8, start_KD=np.zeros((8, 4), np.float32))
    yield Case("no weight at all", vectors_ND, 8, weights_N=np.zeros(400, np.float32))
    heavy_N = np.where(np.arange(400) == 5, 1e9, 1e-9).astype(np.float32)
    yield Case("one of a billion", vectors_ND, 8, weights_N=heavy_N)


def out_of_range() -> Iterator[tuple[str, Callable[[], Any]]]:
    """60: codes that no codebook has, or that do not fit their bits."""
    keys_N = np.arange(1, 11, dtype=np.uint64)
    for name, codes_N in (
        ("below nothing", np.full(10, -1)),
        ("over its bits", np.full(10, 16)),
        ("overflowed", np.full(10, 300).astype(np.int16)),
        ("not whole", np.full(10, 0.5)),
    ):
        yield (
            f"codes {name}",
            lambda codes_N=codes_N: RetrievalIndex.build(keys_N, codes_N, code_bits=4, fingerprint_bits=8),
        )


def refused(build: Callable[[], Any]) -> bool:
    """Whether an index is refused."""
    try:
        build()
    except TrainingError:
        return True
    return False


def figure(seed: int, short: bool, figures: Figures) -> None:
    """All forty."""
    cases = [*too_few(seed), *alike(seed), *not_finite(seed), *emptied(seed)]
    ended = {case.name: case.ends_well() for case in cases}
    ended |= {name: refused(build) for name, build in out_of_range()}
    for name in (name for name, well in ended.items() if not well):
        print(f"  not as it must: {name}")
    figures.add(
        f"11. degenerate clustering inputs that end as they must, of {len(ended)}",
        sum(ended.values()),
        "inputs",
        "= 40",
        holds=sum(ended.values()) == len(ended) == 40,
    )
