"""A graph with other numbers in its constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..graph import Graph, Value
from ..types import Array


def rewritten(graph: Graph, change: Callable[[Value, Array], Array]) -> Graph:
    """A copy of ``graph`` with what ``change`` makes of a constant and its data.

    Constants stay as they are where ``change`` gives back the data it was given.
    """
    out = graph.copy()
    for value in graph.constants:
        before = np.asarray(value.data)
        after = change(value, before)
        if after is not before:
            out.assign(out[value.name], after)
    return out
