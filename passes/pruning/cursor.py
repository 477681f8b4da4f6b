"""Walking through a network with all samples side by side, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...ir.graph import Graph
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

    def values(self, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """The values ``names``, sample after sample, computed from the place on."""
        here = self.held[0]
        missing = [n for n in dict.fromkeys(names) if n not in here]
        if not missing:
            yield from self.held
            return
        part = subgraph(self.graph, missing, here)
        wanted = [v.name for v in part.inputs]
        run = self.context.open(part, missing)
        for held in self.held:
            yield {**held, **run({n: held[n] for n in wanted})}

    def advance(self, index: int) -> None:
        """Move in front of node ``index``, unless the values there would take too much memory."""
        needed = [v for v in live(self.graph, index) if not v.is_constant]
        size = sum(v.type.size * v.type.itemsize for v in needed) * len(self.held)
        if size <= max(HELD, sum(a.nbytes for held in self.held for a in held.values())):
            names = [v.name for v in needed]
            self.held = [{n: found[n] for n in names} for found in self.values(names)]
