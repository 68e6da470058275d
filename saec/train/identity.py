"""Names training state for manifests: by a digest of its elements, whatever files they lie in.

Decisions: a version's id covers its manifest, and the manifest names the state that the version was learnt from. Were
that the name of a file, a version would have another id wherever state is laid out otherwise. So states are called by
how they came about: the name of the state before, and every element that the hour changed, by feature key and not by
place. Two states that differ in any element differ in what some hour changed, so they never share a name; what it costs
follows the hour. The same elements by another history may have another name, which harms nobody.

What a state of an earlier release starts from is the name of its file, which told all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DIGITS = 16
"""Of an identity, in a name."""


def following(before: str, what: str, news: Mapping[str, NDArray[Any]] | None = None) -> str:
    """The identity of a state that came of another.

    Args:
        before: identity of the other; empty for a model that had seen nothing.
        what: by what it came of it.
        news: all that changed, in an order that follows from the elements themselves.

    >>> following("", "hour 3", {"count": np.array([1, 2])})[:16]
    '40e9924fec084854'
    """
    told = blake3(f"{before} {what};".encode())
    for name, array in (news or {}).items():
        told.update(f"{name} {array.dtype.str} {array.shape};".encode())
        told.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return told.hexdigest()


def called(checkpoint: str, identity: str) -> str:
    """What manifests call the state that a checkpoint holds.

    >>> called("20171001T03-original-b30123456789abcdef", "40e9924fec084854" * 4)
    '20171001T03-original-40e9924fec084854'
    """
    return f"{checkpoint.rpartition('-')[0]}-{identity[:DIGITS]}"
