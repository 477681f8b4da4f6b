"""What a network costs as a function of how many channels of each group stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...ir.coupling import Axis, ChannelGroup, Coupling
from ...ir.graph import Graph
from ...ir.types import Array
from ..measure import mac_axes

UNITS = ("macs", "parameters", "bytes", "latency")

Factor = tuple[int, tuple[tuple[int, int], ...]]
"""A length that depends on counts: ``fixed + sum(times * kept[group])``."""

Product = tuple[Factor, ...]
"""Lengths that are multiplied; a product of none is one."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of axes by how many channels of each of ``groups`` stay."""

    coupling: Coupling
    groups: Sequence[ChannelGroup]
    _owner: Array = field(init=False)

    def __post_init__(self) -> None:
        owner = np.full(self.coupling.count, -1)
        for number, group in enumerate(self.groups):
            owner[group.channels] = number
        object.__setattr__(self, "_owner", owner)

    def product(self, axes: Iterable[Axis]) -> tuple[int, Product]:
        """The product of all lengths: a number, and the factors that depend on counts."""
        scale, factors = 1, []
        for value, k in axes:
            for components in self.coupling.channels(value, k):
                own, counts = np.unique(self._owner[components], return_counts=True)
                parts = dict(zip(own.tolist(), counts.tolist(), strict=True))
                fixed = parts.pop(-1, 0)
                if parts:
                    times = ((g, n // len(self.groups[g])) for g, n in parts.items())
                    factors.append((fixed, tuple(times)))
                else:
                    scale *= fixed
        return scale, tuple(sorted(factors))


class Budget:
    """``unit`` of a graph when ``kept[g]`` channels of group ``g`` stay: a sum of products."""

    def __init__(self, lengths: Lengths, unit: str, terms: Iterable[tuple[float, Product]]) -> None:
        self.unit = unit
        self.sizes = np.array([len(g) for g in lengths.groups], np.int64)
        self._terms: dict[Product, float] = {}
        for weight, product in terms:
            self._terms[product] = self._terms.get(product, 0.0) + weight
        self._of: list[list[Product]] = [[] for _ in lengths.groups]
        for product in self._terms:
            for g in {g for _, parts in product for g, _ in parts}:
                self._of[g].append(product)

    @staticmethod
    def of(coupling: Coupling, groups: Sequence[ChannelGroup], unit: str = "macs") -> Budget:
        """The exact ``macs``, ``parameters`` or ``bytes``."""
        lengths = Lengths(coupling, groups)
        return Budget(lengths, unit, _counted(coupling.graph, lengths, unit))

    def cost(self, kept: Array) -> float:
        """The whole cost; ``kept`` is int64 ``[groups]``."""
        have = kept.tolist()
        return float(sum(weight * value(p, have) for p, weight in self._terms.items()))

    def along(self, kept: Array, group: int, counts: Array) -> Array:
        """Costs for ``counts`` of one group, float64, but for what does not depend on them."""
        have: list[int | Array] = kept.tolist()
        have[group] = counts
        total = np.zeros(len(counts))
        for product in self._of[group]:
            total += self._terms[product] * value(product, have)
        return total


def value(product: Product, kept: Sequence[Any]) -> Any:
    """A product of lengths for counts by group: a number, or an array where a count is one."""
    total: Any = 1.0
    for fixed, parts in product:
        total = total * (fixed + sum(times * kept[g] for g, times in parts))
    return total


def _counted(graph: Graph, lengths: Lengths, unit: str) -> Iterable[tuple[float, Product]]:
    if unit == "macs":
        for node in graph.nodes:
            if axes := mac_axes(node):
                yield lengths.product(axes)
        return
    for constant in graph.constants:
        scale, product = lengths.product((constant, k) for k in range(constant.type.rank))
        yield scale * (constant.type.itemsize if unit == "bytes" else 1), product
