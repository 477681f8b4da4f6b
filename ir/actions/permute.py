"""Letting coupled channels change places."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from ..coupling import Coupling
from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array
from .rewritten import rewritten


def permute(coupling: Coupling, source: Array) -> Graph:
    """A copy of the analysed graph with channels in other places; its function is the same.

    ``source`` (int ``[count]``) says for each component which one's content it takes.
    ``PassError`` if a component that is fixed moves, or one leaves its group.
    """
    for group in coupling.groups:
        taken = source[group.channels]
        if set(taken.tolist()) != set(group.channels.tolist()):
            raise PassError(f"channels of {group.name} must stay in their group")
        if group.fixed and np.any(taken != group.channels):
            raise PassError(f"channels of {group.name} cannot change places: {group.fixed}")
    return rewritten(coupling.graph, lambda value, data: permuted(coupling, value, data, source))


def permuted(coupling: Coupling, value: Value, data: Array, source: Array) -> Array:
    """``data`` of a value with the content of component ``source[c]`` where ``c`` was."""
    for axis in range(value.type.rank):
        order = _order(coupling.channels(value, axis), source)
        if np.any(order != np.arange(len(order))):
            data = np.take(data, order, axis)
    return data


def _order(factors: list[Array], source: Array) -> Array:
    """Which element of an axis comes to each position."""
    order = np.zeros(1, np.int64)
    for components in factors:
        where: dict[int, list[int]] = defaultdict(list)
        for position, c in enumerate(components.tolist()):
            where[c].append(position)
        seen: Counter[int] = Counter()
        moved = []
        for c in components.tolist():
            moved.append(where[int(source[c])][seen[c]])
            seen[c] += 1
        order = (order[:, None] * len(components) + np.array(moved)).ravel()
    return order
