"""Letting channels change places in every block (attention head) by itself.

The channels of a head need not be in the same order in all heads, if every tensor that has them
has the heads, too: whatever happens to the channels of one head then happens in that head alone.
So pruning can take other channels from every head: those of the same rank are brought to the same
place first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..coupling import ChannelGroup, Coupling
from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array


def blocks_of(coupling: Coupling, group: ChannelGroup) -> ChannelGroup | None:
    """The group of blocks in each of which ``group`` can be ordered by itself, if there is one.

    The one with the most blocks, of those that are wherever ``group`` is.
    """
    if group.fixed:
        return None
    values = {id(p.value) for p in group.places}
    found = [
        other
        for other in coupling.groups
        if other is not group
        and len(other) > 1
        and values <= {id(p.value) for p in other.places}
        and all(_whole(coupling, p.value, g) for g in (group, other) for p in group.places)
    ]
    return max(found, key=len, default=None)


def permute_within(
    coupling: Coupling, group: ChannelGroup, blocks: ChannelGroup, source: Array
) -> Graph:
    """A copy of the analysed graph with the channels of every block in an order of its own.

    ``source``, int ``[blocks, channels]``: which channel of the block comes to each place.
    ``PassError`` if a tensor has the channels but not the blocks.
    """
    if blocks_of(coupling, group) is None:
        raise PassError(f"channels of {group.name} cannot change places in one block alone")
    graph = coupling.graph.copy()
    for value in dict.fromkeys(p.value for p in group.weights):
        data = permuted_within(coupling, group, blocks, value, np.asarray(value.data), source)
        graph.assign(graph[value.name], data)
    return graph


def permuted_within(
    coupling: Coupling,
    group: ChannelGroup,
    blocks: ChannelGroup,
    value: Value,
    data: Array,
    source: Array,
) -> Array:
    """``data`` of a value that has the group, in the order of :func:`permute_within`."""
    view = Blocked(coupling, value, data, (blocks, group))
    index = source.reshape(*source.shape, *(1,) * (view.data.ndim - 2))
    return view.back(np.take_along_axis(view.data, index, 1))


class Blocked:
    """Data of a value seen as ``[*groups, everything else]``, groups in their own order."""

    def __init__(
        self, coupling: Coupling, value: Value, data: Array, groups: Sequence[ChannelGroup]
    ) -> None:
        factors = _factors(coupling, value)
        self._shape, self._lengths = value.shape, [len(f) for f in factors]
        self._axes = [next(k for k, f in enumerate(factors) if _is(f, g)) for g in groups]
        data = data.reshape(self._lengths)
        self._places = []
        for group, k in zip(groups, self._axes, strict=True):
            at = {component: i for i, component in enumerate(factors[k].tolist())}
            self._places.append(np.array([at[c] for c in group.channels.tolist()]))
            data = np.take(data, self._places[-1], k)
        self.data = np.moveaxis(data, self._axes, range(len(groups)))

    def back(self, data: Array) -> Array:
        """Other data seen like this, in the value's own form."""
        data = np.moveaxis(data, range(len(self._axes)), self._axes)
        for places, k in zip(self._places, self._axes, strict=True):
            data = np.take(data, np.argsort(places), k)
        return np.ascontiguousarray(data.reshape(self._shape))


def _factors(coupling: Coupling, value: Value) -> list[Array]:
    """All factors of all axes, the slowest first."""
    return [f for k in range(value.type.rank) for f in coupling.channels(value, k)]


def _whole(coupling: Coupling, value: Value, group: ChannelGroup) -> bool:
    """Whether a value has a group as one factor, whole, and only there."""
    near = [f for f in _factors(coupling, value) if np.isin(f, group.channels).any()]
    return len(near) == 1 and _is(near[0], group)


def _is(factor: Array, group: ChannelGroup) -> bool:
    return len(factor) == len(group) and set(factor.tolist()) == set(group.channels.tolist())
