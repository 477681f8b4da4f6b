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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..graph import Graph, Value
from ..types import Array
from .factors import Classes, in_blocks
from .relations import Relations


@dataclass(frozen=True)
class Place:
    """A factor of an axis of a value; ``sole`` if it is the axis's only one."""

    value: Value
    axis: int
    factor: int
    sole: bool

    def __str__(self) -> str:
        return f"{self.value.name}.{self.axis}" + ("" if self.sole else f"/{self.factor}")


@dataclass(eq=False)
class ChannelGroup:
    """Coupled channels that occur in the same places; each can be acted on alone.

    ``channels`` are component numbers, ``pinned`` says why none can be deleted and ``fixed`` why
    none can be permuted (empty: they can).
    """

    channels: Array
    places: list[Place]
    pinned: str
    fixed: str

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def weights(self) -> list[Place]:
        """The places in constants of real numbers."""
        return [p for p in self.places if p.value.is_constant and p.value.type.is_float]

    @property
    def name(self) -> str:
        """The place of the first weight, else the first place."""
        return str((self.weights or self.places)[0])


@dataclass(frozen=True)
class _Mark:
    """Ids that cannot be deleted, and why; ``permutable`` ones can change places."""

    ids: Array
    why: str
    permutable: bool = False


@dataclass
class Coupling:
    """The analysis of one graph.  ``count`` components; ``groups`` in the order of the graph."""

    graph: Graph
    relations: Relations = field(init=False, repr=False)
    count: int = field(init=False)
    groups: list[ChannelGroup] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.relations = relations = _state(self.graph)
        self._classes = classes = Classes(relations)
        self._ids: list[list[Array]] = []
        total = 0
        for number in range(len(classes.sizes)):
            own = []
            for n in classes.factors(number):
                own.append(np.arange(total, total + n))
                total += n
            self._ids.append(own)
        marks = [
            _Mark(ids, pin.why, pin.permutable)
            for pin in relations.pins
            for ids in self._ids[classes.of[pin.axis]]
        ]
        edges = list(self._edges(marks))
        left, right = (np.concatenate([np.zeros(0, int), *(e[k] for e in edges)]) for k in (0, 1))
        links = coo_matrix((np.ones(len(left), bool), (left, right)), (total, total))
        self.count, self._component = connected_components(links, directed=False)
        self.groups = list(self._grouped(marks))

    # -- asking ------------------------------------------------------------------------------

    def deletable(self) -> list[ChannelGroup]:
        """The groups with weights whose channels can be deleted."""
        return [g for g in self.groups if not g.pinned and len(g) > 1 and g.weights]

    def permutable(self) -> list[ChannelGroup]:
        """The groups with weights whose channels can change places."""
        return [g for g in self.groups if not g.fixed and len(g) > 1 and g.weights]

    def channels(self, value: Value, axis: int) -> list[Array]:
        """Components along an axis, one array per factor, the slowest first; none if length 1."""
        number = self._classes.of.get((value, axis))
        return [] if number is None else [self._component[ids] for ids in self._ids[number]]

    def keep(self, value: Value, axis: int, gone: Array) -> Array:
        """bool ``[length]``: what stays when the components ``gone`` (bool ``[count]``) go."""
        kept = np.ones(1, bool)
        for components in self.channels(value, axis):
            kept = np.outer(kept, ~gone[components]).ravel()
        return kept

    def keeps(self, value: Value, gone: Array) -> list[Array]:
        """:meth:`keep` for all axes of a value."""
        return [self.keep(value, k, gone) for k in range(value.type.rank)]

    # -- solving -----------------------------------------------------------------------------

    def _edges(self, marks: list[_Mark]) -> Iterator[tuple[Array, Array]]:
        """Pairs of equal ids; relations between factors that disagree add to ``marks`` instead."""
        classes, ids = self._classes, self._ids

        def pin(numbers: Sequence[int], why: str) -> None:
            marks.extend(_Mark(i, why) for n in numbers for i in ids[n])

        for left, right in classes.products:
            a, b = ([i for number in side for i in ids[number]] for side in (left, right))
            if [len(i) for i in a] == [len(i) for i in b]:
                yield from zip(a, b, strict=True)
            else:
                pin([*left, *right], "a reshape mixes it with other axes")
        for big, indices, small in classes.indices:
            if len(ids[big]) == len(ids[small]) == 1:  # both flat: any map will do
                yield ids[big][0][indices], ids[small][0]
                continue
            pairs = self._blocks(big, indices, small, marks)
            if pairs is None:
                pin([big, small], "a slice crosses its factors")
            else:
                yield from pairs

    def _blocks(
        self, big: int, indices: Array, small: int, marks: list[_Mark]
    ) -> list[tuple[Array, Array]] | None:
        """Pairs of ids where ``indices`` take whole blocks of the big axis's inner factors."""
        theirs, mine = self._ids[big], self._ids[small]
        block = self._classes.strides[big][-2] if theirs else 1
        if not theirs or not len(indices) or not in_blocks(indices, block):
            return None
        rows = theirs[0][indices.reshape(-1, block)[:, 0] // block]
        inner = theirs[1:]
        if [len(i) for i in mine] == [len(rows), *map(len, inner)]:
            return list(zip([rows, *inner], mine, strict=True))
        if len(rows) == 1 and [len(i) for i in mine] == [len(i) for i in inner]:
            marks.append(_Mark(rows, "selected by number"))
            return list(zip(inner, mine, strict=True))
        return None

    def _grouped(self, marks: list[_Mark]) -> Iterator[ChannelGroup]:
        pinned: dict[int, str] = {}
        fixed: dict[int, str] = {}
        for mark in marks:
            for c in self._component[mark.ids]:
                pinned.setdefault(int(c), mark.why)
                if not mark.permutable:
                    fixed.setdefault(int(c), mark.why)
        places: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
        for number, factors in enumerate(self._ids):
            for f, ids in enumerate(factors):
                for c in self._component[ids]:
                    places[int(c)][number, f] += 1
        groups: dict[object, list[int]] = {}
        for c, where in places.items():
            key = (frozenset(where.items()), pinned.get(c, ""), fixed.get(c, ""))
            groups.setdefault(key, []).append(c)
        for members in groups.values():
            first = members[0]
            found = [
                Place(value, axis, f, len(self._ids[number]) == 1)
                for number, f in places[first]
                for value, axis in self._classes.members[number]
                if not value.name.startswith("#")
            ]
            yield ChannelGroup(
                np.array(members), found, pinned.get(first, ""), fixed.get(first, "")
            )


def _state(graph: Graph) -> Relations:
    """What all nodes of a graph, its inputs and its outputs state."""
    relations = Relations()
    for node in graph.nodes:
        node.op.couple(relations, node)
    for kind, values in (("graph input", graph.inputs), ("graph output", graph.outputs)):
        for value in values:
            for axis in relations.axes(value):
                relations.pin(axis, kind)
    return relations
