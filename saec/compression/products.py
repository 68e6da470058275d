"""Computes the matrix products of clustering, with torch if it is installed and numpy otherwise.

Decisions: a pipeline has torch, and its bytes depend on torch's products. A user of `saec.compress` may have only
numpy, whose products round differently: codes of vectors halfway between two codewords may differ, but nothing else.

Shapes: B rows of a block, M vectors, C codewords, K columns, X inner length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

try:
    import torch
except ModuleNotFoundError:

    def squared_norms(vectors_MD: Floats) -> Floats:
        """Squared norm of each vector."""
        norms_M: Floats = np.square(vectors_MD).sum(1)
        return norms_M

    def multiply(left_BX: Floats, right_XK: Floats, out_BK: Floats) -> None:
        """Matrix product into an array that is there."""
        np.matmul(left_BX, right_XK, out=out_BK)

    def least(norms_C: Floats, vectors_MD: Floats, codewords_CD: Floats) -> Floats:
        """Of each vector, the least of a codeword's norm less twice its product with it."""
        least_M: Floats = (norms_C - 2.0 * (vectors_MD @ codewords_CD.T)).min(1)
        return least_M

else:

    def squared_norms(vectors_MD: Floats) -> Floats:
        """Squared norm of each vector."""
        norms_M: Floats = torch.from_numpy(vectors_MD).square().sum(1).numpy()
        return norms_M

    def multiply(left_BX: Floats, right_XK: Floats, out_BK: Floats) -> None:
        """Matrix product into an array that is there."""
        torch.mm(torch.from_numpy(left_BX), torch.from_numpy(right_XK), out=torch.from_numpy(out_BK))

    def least(norms_C: Floats, vectors_MD: Floats, codewords_CD: Floats) -> Floats:
        """Of each vector, the least of a codeword's norm less twice its product with it."""
        norms, vectors, codewords = (torch.from_numpy(array) for array in (norms_C, vectors_MD, codewords_CD))
        least_M: Floats = torch.addmm(norms, vectors, codewords.T, alpha=-2.0).amin(1).numpy()
        return least_M
