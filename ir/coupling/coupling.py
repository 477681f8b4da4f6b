"""Coupled channels of a graph: which axes of which tensors are "the same channels".

Every axis is a chain of factors, every factor a vector of channel ids.  The relations that the
ops state unify ids; connected components are the coupled channels, and those that occur equally
often in the same places form a group.  Where factors disagree, the axes are pinned: the analysis
never guesses.

Sources: Fang et al., "DepGraph", 2023 (groups of coupled parameters); Wang et al., "Structurally
Prune Anything", 2024 (coupled channels over operator and data nodes).  The formulation by channel
ids of factors is ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Value
from ..types import Array
from .action import Action
from .connected import connected
from .ids import Channels, Ids
from .relations import Relations
from .stated import stated


@dataclass(eq=False)
class ChannelGroup(Channels):
    """Coupled channels that occur in the same places; each can be acted on alone.

    ``channels`` are component numbers, ``pinned`` says why none can be deleted and ``fixed`` why
    none can be permuted (empty: they can).
    """

    pinned: str
    fixed: str


@dataclass
class Coupling:
    """The analysis of one graph.  ``count`` components; ``groups`` in the order of the graph."""

    graph: Graph
    relations: Relations = field(init=False, repr=False)
    count: int = field(init=False)
    groups: list[ChannelGroup] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.relations = relations = stated(self.graph)
        self._ids = ids = Ids(relations, Action.DELETE)
        left, right = (
            np.concatenate([np.zeros(0, int), *(e[k] for e in ids.equal)]) for k in (0, 1)
        )
        self.count, self._component = connected(left, right, ids.count)
        self.groups = list(self._grouped())

    # -- asking ------------------------------------------------------------------------------

    def deletable(self) -> list[ChannelGroup]:
        """The groups with weights whose channels can be deleted."""
        return [g for g in self.groups if not g.pinned and len(g) > 1 and g.weights]

    def permutable(self) -> list[ChannelGroup]:
        """The groups with weights whose channels can change places."""
        return [g for g in self.groups if not g.fixed and len(g) > 1 and g.weights]

    def channels(self, value: Value, axis: int) -> list[Array]:
        """Components along an axis, one array per factor, the slowest first; none if length 1."""
        return [self._component[ids] for ids in self._ids.of(value, axis)]

    def keep(self, value: Value, axis: int, gone: Array) -> Array:
        """bool ``[length]``: what stays when the components ``gone`` (bool ``[count]``) go."""
        kept = np.ones(1, bool)
        for components in self.channels(value, axis):
            kept = np.outer(kept, ~gone[components]).ravel()
        return kept

    def keeps(self, value: Value, gone: Array) -> list[Array]:
        """:meth:`keep` for all axes of a value."""
        return [self.keep(value, k, gone) for k in range(value.type.rank)]

    def _grouped(self) -> Iterator[ChannelGroup]:
        pinned: dict[int, str] = {}
        fixed: dict[int, str] = {}
        for mark in self._ids.marks:
            for c in self._component[mark.ids].tolist():
                if Action.DELETE in mark.forbids:
                    pinned.setdefault(c, mark.why)
                if Action.PERMUTE in mark.forbids:
                    fixed.setdefault(c, mark.why)
        places: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
        for number, f, ids in self._ids.factors():
            for c in self._component[ids].tolist():
                places[c][number, f] += 1
        groups: dict[object, list[int]] = {}
        for c, where in places.items():
            key = (frozenset(where.items()), pinned.get(c, ""), fixed.get(c, ""))
            groups.setdefault(key, []).append(c)
        for members in groups.values():
            first = members[0]
            found = [p for number, f in places[first] for p in self._ids.places(number, f)]
            yield ChannelGroup(
                np.array(members), found, pinned.get(first, ""), fixed.get(first, "")
            )
