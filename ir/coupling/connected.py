"""What hangs together in a graph of numbers; scipy finds it, and is loaded when it is asked."""

from __future__ import annotations

import numpy as np

from ..types import Array


def connected(left: Array, right: Array, count: int) -> tuple[int, Array]:
    """Components of ``count`` nodes with the edges ``left[i] - right[i]``.

    Their number, and every node's: int ``[count]``.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(left), bool), (left, right)), (count, count))
    number, found = connected_components(links, directed=False)
    return int(number), np.asarray(found)
