"""Where numbers can move between the producers and the consumers of channels.

A site is a group of channels that can be scaled by positive factors, shifted by amounts, or mixed
by an orthogonal matrix, while every output of the network stays what it is: what one weight takes
on, another gives back.  It is a finer relation than coupling: a norm, a batch norm or a product
with a constant separates what lies before from what lies behind, since its weights absorb the
difference.  What does not commute with the action holds channels fast.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019 (scales through ReLU); Li et al., "RepQ-ViT", 2023 (norms absorb); Ashkboos et al., "QuaRot",
2024 (rotations).  That one analysis finds all of them is ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..errors import PassError
from ..graph import Graph, Value
from ..types import Array
from .action import Action
from .ids import Channels, Ids
from .signed import Signed
from .stated import stated

DONE = {Action.SCALE: "scaled", Action.SHIFT: "shifted", Action.ROTATE: "rotated"}


@dataclass(eq=False)
class Site(Channels):
    """Channels in the same places, for one action; each can take an amount of its own.

    ``channels`` are component numbers; ``why`` says why they must stay as they are (empty: they
    need not).
    """

    why: str


@dataclass
class Sites:
    """The sites of one graph for ``SCALE``, ``SHIFT`` or ``ROTATE``.  ``count`` components.

    Amounts are one number per component that add up: a shift, or the logarithm of a factor.
    """

    graph: Graph
    action: Action
    count: int = field(init=False)
    groups: list[Site] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ids = ids = Ids(stated(self.graph), self.action)
        pinned: dict[int, str] = {}
        for mark in ids.marks:
            if self.action in mark.forbids:
                for i in mark.ids.tolist():
                    pinned.setdefault(i, mark.why)
        own, activation = np.zeros(ids.count, bool), np.zeros(ids.count, bool)
        for number, _, found in ids.factors():
            members = [v for v, _ in ids.classes.members[number]]
            own[found] = len(members) == 1 and members[0].is_constant
            activation[found] = not all(v.is_constant for v in members)
        self._solved = solved = Signed(ids, pinned, own)
        self.count = int(solved.component.max(initial=-1)) + 1
        self._sign = solved.sign * self._orientation(activation)
        self.groups = list(self._grouped())

    # -- asking ------------------------------------------------------------------------------

    def free(self) -> list[Site]:
        """The sites of more than one channel that can be acted on."""
        return [g for g in self.groups if not g.why and len(g) > 1]

    def channels(self, value: Value, axis: int) -> list[Array]:
        """Components along an axis, one array per factor, the slowest first; none if length 1."""
        return [self._solved.component[ids] for ids in self._ids.of(value, axis)]

    def along(self, value: Value, axis: int, amounts: Array) -> Array:
        """What every element of an axis takes, for the amounts of :meth:`spread`."""
        total = np.zeros(1)
        for ids in self._ids.of(value, axis):
            total = np.add.outer(total, amounts[ids]).ravel()
        return total

    def spread(self, amount: Array) -> Array:
        """Amounts per component to amounts per id, those that weights absorb included."""
        out = np.asarray(self._sign * amount[self._solved.component])
        for absorber in self._solved.absorbers:
            out[absorber.taker] = -sum(sign * out[ids] for ids, sign in absorber.others)
        return out

    def check(self, moved: Array) -> None:
        """``PassError`` if a component that must stay as it is moves (bool ``[count]``)."""
        for site in self.groups:
            if site.why and moved[site.channels].any():
                done = DONE[self.action]
                raise PassError(f"channels of {site.name} cannot be {done}: {site.why}")

    # -- solving -----------------------------------------------------------------------------

    def _orientation(self, activation: Array) -> Array:
        """1 or -1 per id, so that the first activation of a component has a positive sign."""
        component, sign = self._solved.component, self._solved.sign
        turn = np.ones(self.count, int)
        found = np.flatnonzero(activation)
        seen, first = np.unique(component[found], return_index=True)
        turn[seen] = sign[found[first]]
        return turn[component]

    def _grouped(self) -> Iterator[Site]:
        component = self._solved.component
        where = np.zeros((self._ids.count, 2), int)
        places: dict[int, Counter[tuple[int, int, int]]] = defaultdict(Counter)
        taken = np.zeros(self._ids.count, bool)
        for absorber in self._solved.absorbers:
            taken[absorber.taker] = True
        for number, f, ids in self._ids.factors():
            where[ids] = number, f
            for i in ids[~taken[ids]].tolist():
                places[int(component[i])][number, f, int(self._sign[i])] += 1
        for absorber in self._solved.absorbers:
            for others, sign in absorber.others:
                powers = -sign * self._sign[others]
                for t, i, power in zip(absorber.taker, others, powers, strict=True):
                    number, f = where[t].tolist()
                    places[int(component[i])][number, f, int(power)] += 1
        groups: dict[tuple[object, str], list[int]] = {}
        for c, found in places.items():
            key = frozenset(found.items()), self._reason(c, found)
            groups.setdefault(key, []).append(c)
        for (_, why), members in groups.items():
            at = [p for place in places[members[0]] for p in self._ids.places(*place)]
            if at:
                yield Site(np.array(members), at, why)

    def _reason(self, component: int, found: Counter[tuple[int, int, int]]) -> str:
        why = self._solved.why.get(component, "")
        if not why and self.action is Action.ROTATE and max(found.values()) > 1:
            return "several times along one axis"
        return why
