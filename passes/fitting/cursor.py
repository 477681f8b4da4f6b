"""Walking through a network with all samples side by side, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...ir.graph import Graph, Value
from ...ir.subgraph import live, subgraph
from ...ir.types import Array
from ..context import Context, Feed

HELD = 1 << 30
"""Bytes that the values of all samples may hold at the place where a walk stands."""


@dataclass
class Cursor:
    """The values of all samples at one place of a graph; the place moves forward."""

    graph: Graph
    context: Context
    feeds: Sequence[Feed]
    held: list[dict[str, Array]] = field(init=False)

    def __post_init__(self) -> None:
        self.held = [dict(feed) for feed in self.feeds]

    def values(
        self, names: Sequence[str], graph: Graph | None = None
    ) -> Iterator[dict[str, Array]]:
        """The values ``names``, sample after sample, computed from the place on.

        ``graph``: another one that is the same up to the place.
        """
        here = self.held[0]
        missing = [n for n in dict.fromkeys(names) if n not in here]
        if not missing:
            yield from self.held
            return
        part = subgraph(graph or self.graph, missing, here)
        wanted = [v.name for v in part.inputs]
        run = self.context.open(part, missing)
        for held in self.held:
            yield {**held, **run({n: held[n] for n in wanted})}

    def hold(self, names: Sequence[str]) -> None:
        """Compute values once for several uses, unless they would take too much memory."""
        new = [self.graph[n] for n in dict.fromkeys(names) if n not in self.held[0]]
        if self._bytes(new) + self._held_bytes() <= HELD:
            self.held = list(self.values(names))

    def advance(self, index: int) -> None:
        """Move in front of node ``index``, unless the values there would take too much memory."""
        needed = [v for v in live(self.graph, index) if not v.is_constant]
        if self._bytes(needed) <= max(HELD, self._held_bytes()):
            names = [v.name for v in needed]
            self.held = [{n: found[n] for n in names} for found in self.values(names)]

    def _bytes(self, values: Sequence[Value]) -> int:
        return sum(v.type.size * v.type.itemsize for v in values) * len(self.held)

    def _held_bytes(self) -> int:
        return sum(a.nbytes for held in self.held for a in held.values())
