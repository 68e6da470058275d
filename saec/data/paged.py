"""Columns that may be larger than memory: most elements lie in a file that nobody changes, the rest in memory.

Decisions:
- The base is read only: arrays mapped from a checkpoint, or plain ones. What an hour changes is kept beside it, by
  place, and what it appends behind it. So memory follows what hours touched since the base was written, a crash can
  leave no file half new, and going back to an earlier hour is opening its files.
- Pages that were read are given back (`give_back`): the kernel would keep them as this process's memory for as long
  as nothing else wants it, and whoever counts memory could not tell them from what is needed.

Shapes: V elements of a column, P changed ones, N any.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

CHUNK = 1 << 18
"""Elements of a column gone through at a time."""
_GATHERED = 1 << 13
"""Elements gathered from a mapped base before its pages are given back: each may bring in 64 kB of neighbours."""
_REMEMBERED = 1 << 20
"""Elements whose places among the changed ones are remembered at most."""
_PAGE = mmap.PAGESIZE

Values = NDArray[Any]


class Paged:
    """Named columns of one length.

    >>> paged = Paged({"count": np.array([5, 6, 7])})
    >>> paged.put(np.array([1]), {"count": np.array([60])})
    >>> paged.append({"count": np.array([8])})
    >>> paged.take("count", np.array([3, 1])).tolist()
    [8, 60]
    """

    def __init__(self, base: Mapping[str, Values]) -> None:
        """Columns that start as these arrays, which are not copied and never written to."""
        self._base = dict(base)
        self._base_length = self._length = min(len(array) for array in base.values())
        self._changed = np.zeros(0, np.int64)
        self._asked, self._found = _nothing()
        self._values = {name: np.zeros_like(array[:0]) for name, array in base.items()}
        self._tail = {name: np.zeros_like(array[:0]) for name, array in base.items()}

    @classmethod
    def of(cls, columns: Mapping[str, Values | Column]) -> Paged:
        """The columns that these are of, or new ones over these arrays."""
        owners = {id(column.paged): column.paged for column in columns.values() if isinstance(column, Column)}
        if len(owners) == 1 and all(isinstance(column, Column) for column in columns.values()):
            return next(iter(owners.values()))
        return cls({name: np.asarray(column) for name, column in columns.items()})

    def __len__(self) -> int:
        """Elements of each column."""
        return self._length

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._base)

    @property
    def in_memory(self) -> int:
        """Bytes of what lies in memory: elements changed or appended since the base was written."""
        parts = (self._changed, *self._values.values(), *self._tail.values())
        return sum(part.nbytes for part in parts)

    @property
    def based(self) -> int:
        """How many of the elements the base has."""
        return self._base_length

    def base(self) -> Paged:
        """The columns as they were when the base was written."""
        return Paged(self._base)

    def since(self) -> NDArray[np.int64]:
        """Places of what lies in memory, ascending: elements changed or appended since the base was written."""
        return np.concatenate([self._changed, np.arange(self._base_length, self._length)])

    def column(self, name: str) -> Column:
        """One of the columns, to be read as an array."""
        return Column(self, name)

    def like(self, name: str) -> Values:
        """An empty array of a column's type and shape."""
        return self._base[name][:0]

    def take(self, name: str, places_N: NDArray[np.int64]) -> Values:
        """A copy of some elements of a column, in the order given."""
        like = self._base[name]
        taken = np.empty((len(places_N), *like.shape[1:]), like.dtype)
        based_N = places_N < self._base_length
        taken[~based_N] = self._tail[name][places_N[~based_N] - self._base_length]
        among_N, changed_N = self._among(places_N)
        taken[changed_N] = self._values[name][among_N[changed_N]]
        kept = np.flatnonzero(based_N & ~changed_N)
        self._gather(name, places_N[kept], taken, kept)
        return taken

    def before(self, name: str, places_N: NDArray[np.int64]) -> Values:
        """A copy of some elements of a column as the base has them, in the order given."""
        like = self._base[name]
        taken = np.empty((len(places_N), *like.shape[1:]), like.dtype)
        self._gather(name, places_N, taken, None)
        return taken

    def _gather(self, name: str, places_N: NDArray[np.int64], into: Values, at_N: NDArray[np.int64] | None) -> None:
        """Copy some elements of a column's base into an array, in their order or to these places of it."""
        like = self._base[name]
        # A page of the file comes in once, for all of it that is wanted.
        order = None if bool((places_N[1:] >= places_N[:-1]).all()) else np.argsort(places_N)
        for start in range(0, len(places_N), _GATHERED):
            part = slice(start, start + _GATHERED) if order is None else order[start : start + _GATHERED]
            places = places_N[part]
            into[part if at_N is None else at_N[part]] = like[places]
            give_back(like, int(places[0]), int(places[-1]) + 1)

    def put(self, places_N: NDArray[np.int64], values: Mapping[str, Values]) -> None:
        """Set distinct elements of some columns; the other columns stay as they are."""
        based_N = places_N < self._base_length
        self._hold(places_N[based_N])
        among, _ = self._among(places_N[based_N])
        tail = places_N[~based_N] - self._base_length
        for name, array in values.items():
            self._values[name][among] = array[based_N]
            self._tail[name][tail] = array[~based_N]

    def append(self, values: Mapping[str, Values]) -> None:
        """Add elements, given for all columns."""
        start = self._length
        self.extend(start + len(next(iter(values.values()))))
        for name, array in values.items():
            self._tail[name][start - self._base_length : self._length - self._base_length] = array

    def extend(self, length: int) -> None:
        """Add zeros up to so many elements."""
        wanted = length - self._base_length
        for name, tail in self._tail.items():
            if wanted > len(tail):
                longer = np.zeros((max(wanted, 2 * len(tail)), *tail.shape[1:]), tail.dtype)
                longer[: len(tail)] = tail
                self._tail[name] = longer
        self._length = max(length, self._length)

    def chunks(self, *names: str) -> Iterator[tuple[int, tuple[Values, ...]]]:
        """All elements of some columns, part by part: where each part starts, and its arrays, copies."""
        for start in range(0, self._length, CHUNK):
            stop = min(start + CHUNK, self._length)
            yield start, tuple(self._part(name, start, stop) for name in names)
            for name in names:
                give_back(self._base[name], start, stop)

    def whole(self, name: str) -> Values:
        """A copy of a column, whole in memory."""
        like = self._base[name]
        whole = np.empty((self._length, *like.shape[1:]), like.dtype)
        for start, (part,) in self.chunks(name):
            whole[start : start + len(part)] = part
        return whole

    def replaced(self, name: str, values_V: Values) -> Paged:
        """Columns with another array in the place of one, before anything was changed."""
        return Paged(self._base | {name: values_V})

    def _among(self, places_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where elements stand among the changed ones, and which do."""
        if not len(self._changed):
            return np.zeros(len(places_N), np.int64), np.zeros(len(places_N), bool)
        if np.array_equal(self._asked, places_N):
            return self._found
        among_N = np.minimum(np.searchsorted(self._changed, places_N), len(self._changed) - 1)
        found = among_N, self._changed[among_N] == places_N
        if len(places_N) <= _REMEMBERED:
            self._asked, self._found = places_N.copy(), found
        return found

    def _hold(self, places_N: NDArray[np.int64]) -> None:
        """Have elements of the base among the changed ones."""
        new = np.sort(places_N[~self._among(places_N)[1]])
        if len(new):
            before = np.searchsorted(self._changed, new)
            self._values = {
                name: np.insert(values, before, self.take(name, new), axis=0) for name, values in self._values.items()
            }
            self._changed = np.insert(self._changed, before, new)
            self._asked, self._found = _nothing()

    def _part(self, name: str, start: int, stop: int) -> Values:
        """Neighbouring elements of a column."""
        based = max(min(stop, self._base_length) - start, 0)
        like = self._base[name]
        part = np.empty((stop - start, *like.shape[1:]), like.dtype)
        part[:based] = like[start : start + based]
        part[based:] = self._tail[name][max(start - self._base_length, 0) : max(stop - self._base_length, 0)]
        first, end = np.searchsorted(self._changed, (start, stop))
        part[self._changed[first:end] - start] = self._values[name][first:end]
        return part


def _nothing() -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """No elements, and where they are."""
    return np.zeros(0, np.int64), (np.zeros(0, np.int64), np.zeros(0, bool))


class Column:
    """A column of `Paged`, where an array is wanted; making one of it (`np.asarray`) takes the memory of it."""

    def __init__(self, paged: Paged, name: str) -> None:
        """The column of that name."""
        self.paged, self._name = paged, name
        self.dtype = paged.like(name).dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements, and the shape of one."""
        return len(self.paged), *self.paged.like(self._name).shape[1:]

    def __len__(self) -> int:
        """Elements."""
        return len(self.paged)

    def __getitem__(self, places_N: NDArray[np.int64]) -> Values:
        """A copy of the elements at these places."""
        return self.paged.take(self._name, places_N)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Values:
        """All elements."""
        return self.paged.whole(self._name).astype(dtype or self.dtype, copy=False)

    def parts(self) -> Iterator[Values]:
        """All elements, some at a time."""
        for _, (part,) in self.paged.chunks(self._name):
            yield part


def pages_of(file: IO[bytes]) -> mmap.mmap:
    """The pages of a file, for `mapped`; the file may be closed afterwards, and its name may go."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def mapped(pages: mmap.mmap, kind: np.dtype[Any], shape: Sequence[int], offset: int) -> Values:
    """An array that lies in a file, read as it is used."""
    size = int(np.prod(shape, dtype=np.int64))
    if not size:
        return np.zeros(shape, kind)
    return np.frombuffer(pages, kind, size, offset).reshape(shape)


def give_back(array: Values, start: int = 0, stop: int | None = None) -> None:
    """Give the pages of the file that elements of an array are mapped from back to the kernel.

    Whoever reads on gets them anew. The kernel looks at every page in between, so say which may be there.

    Args:
        array: mapped from a file; another one is left alone.
        start: the first of the elements.
        stop: the one behind the last; all from `start` on when left out.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and len(array):
        origin = np.frombuffer(base, np.uint8, 1).ctypes.data
        first = array.ctypes.data - origin + start * array.strides[0]
        end = array.ctypes.data - origin + min(len(array), len(array) if stop is None else stop) * array.strides[0]
        first -= first % _PAGE
        if end > first:
            base.madvise(mmap.MADV_DONTNEED, first, end - first)
