"""What a network costs as a function of how many channels of each group stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.coupling import Axis, ChannelGroup, Coupling
from ...ir.graph import Graph
from ...ir.types import Array
from ..measure import mac_axes

UNITS = ("macs", "parameters", "bytes")


@dataclass
class Budget:
    """``unit`` of a graph when ``kept[g]`` channels of group ``g`` stay, exactly.

    Every term (a node's multiply-accumulates, a constant's size) is a product of axis lengths,
    every length a product of factors, and a factor ``fixed + sum(times * kept)``.
    """

    coupling: Coupling
    groups: Sequence[ChannelGroup]
    unit: str = "macs"
    _constant: float = 0.0
    _terms: list[tuple[float, list[tuple[int, list[tuple[int, int]]]]]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        owner = np.full(self.coupling.count, -1)
        for number, group in enumerate(self.groups):
            owner[group.channels] = number
        for weight, axes in _terms(self.coupling.graph, self.unit):
            scale, factors = float(weight), []
            for value, k in axes:
                for components in self.coupling.channels(value, k):
                    own, counts = np.unique(owner[components], return_counts=True)
                    parts = dict(zip(own.tolist(), counts.tolist(), strict=True))
                    fixed = parts.pop(-1, 0)
                    if not parts:
                        scale *= fixed
                        continue
                    sizes = {g: len(self.groups[g]) for g in parts}
                    factors.append((fixed, [(g, n // sizes[g]) for g, n in parts.items()]))
            if factors:
                self._terms.append((scale, factors))
            else:
                self._constant += scale

    @property
    def sizes(self) -> Array:
        """Channels of each group, int64."""
        return np.array([len(g) for g in self.groups], np.int64)

    def cost(self, kept: Array) -> float:
        """The whole cost; ``kept`` is int64 ``[groups]``."""
        have = kept.tolist()
        total = self._constant
        for scale, factors in self._terms:
            for fixed, parts in factors:
                scale *= fixed + sum(times * have[g] for g, times in parts)
            total += scale
        return total


def _terms(graph: Graph, unit: str) -> Iterable[tuple[int, list[Axis]]]:
    """Factors and axes whose lengths multiply to one term each."""
    if unit == "macs":
        for node in graph.nodes:
            if axes := mac_axes(node):
                yield 1, axes
        return
    for value in graph.constants:
        axes = [(value, k) for k in range(value.type.rank)]
        yield value.type.itemsize if unit == "bytes" else 1, axes
