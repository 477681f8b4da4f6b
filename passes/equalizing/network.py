"""The sites of a network that layers can be equalized at, and what calibration shows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.types import Array
from ..context import Context
from ..linear import Linear
from ..statistics.streaming import ChannelStatistics, stream
from .layer_scales import NORMS, PINNED, LayerScales
from .precision import Precision
from .reader import Reader, Sampled
from .site import Site, State

RECURRENCES = frozenset({"SelectiveScan"})
"""Ops whose rare extremes a few positions do not show."""


@dataclass
class Network:
    """The layers that read free channels, and the sites, with the amounts chosen so far."""

    free: LayerScales
    readers: list[Reader]
    precision: Precision
    state: State

    @staticmethod
    def of(free: LayerScales, precision: Precision) -> Network:
        """Of the graph that ``free`` describes; nothing is seen of its activations yet."""
        layers = [x for x in map(Linear.of, free.graph.nodes) if x is not None]
        found = [Reader(x, free.inputs[_name(x)], free.outputs[_name(x)]) for x in layers]
        readers = [r for r in found if r.inputs.any()]
        return Network(free, readers, precision, State.of(free.count))

    def observe(self, graph: Graph, context: Context) -> None:
        """Stream the calibration data through ``graph`` for what readers see."""
        values = {r.layer.node.operands[0].name: r.layer.axis for r in self.readers}
        seen = {name: ChannelStatistics(axis) for name, axis in values.items()}
        taken = [Sampled(r.layer) for r in self.readers]
        names = [r.layer.node.operands[0].name for r in self.readers]
        stream(graph, context, [*seen.items(), *zip(names, taken, strict=True)], "equalize")
        for reader, name, sampled in zip(self.readers, names, taken, strict=True):
            reader.seen, reader.halves = seen[name], sampled.halves()

    def sites(self) -> list[Site]:
        """Free classes by what makes them."""
        makers: dict[int, tuple[str, ...]] = {}
        for name, classes in self.free.outputs.items():
            for i in np.unique(classes):
                if i != PINNED:
                    makers[int(i)] = (*makers.get(int(i), ()), name)
        together: dict[tuple[str, ...], list[int]] = {}
        for i, names in makers.items():
            together.setdefault(names, []).append(i)
        out = []
        for names, members in together.items():
            channels = np.array(members)
            readers = tuple(r for r in self.readers if np.isin(r.inputs, channels).any())
            if readers:
                out.append(self._site(names, channels, readers))
        return out

    def at(self, site: Site) -> Site:
        """The same site with the amounts that are chosen by now."""
        return replace(site, state=self.state)

    def _site(self, names: tuple[str, ...], channels: Array, readers: tuple[Reader, ...]) -> Site:
        made = [self._rows(self.free.graph[name].producer) for name in names]
        return Site(
            names[0],
            channels,
            bool(self.free.shifts[channels].all()),
            readers,
            tuple(m for m in made if m is not None),
            None not in made,
            any(self._recurs(name) for name in names),
            any(_op(self.free.graph[name]) not in NORMS for name in names),
            self.precision,
            self.state,
        )

    def _recurs(self, name: str) -> bool:
        """Whether a product takes up the factors of what a recurrence makes."""
        node = self.free.graph[name].producer
        return (
            name in self.free.products and node is not None and _op(node.operands[0]) in RECURRENCES
        )

    def _rows(self, node: Node | None) -> Callable[[State], Array] | None:
        """Greatest weight per class of what a node makes; None where it has no weights."""
        assert node is not None
        name, count = node.output.name, self.free.count
        layer = Linear.of(node)
        if layer is not None:
            reader = Reader(layer, self.free.inputs[name], self.free.outputs[name])
            return lambda state: _spread(reader.outputs, reader.rows(state.scale), count)
        if name in self.free.products:
            return None
        if len(node.operands) > 1 and node.operands[1].data is not None:
            gain = np.abs(np.asarray(node.operands[1].data, np.float64)).ravel()
            return lambda state: _spread(self.free.outputs[name], gain, count)
        return None


def _spread(classes: Array, rows: Array, count: int) -> Array:
    out = np.zeros(count)
    np.maximum.at(out, classes, rows)
    return out


def _op(value: Value) -> str:
    return value.producer.op.name if value.producer is not None else ""


def _name(layer: Linear) -> str:
    return layer.node.output.name
