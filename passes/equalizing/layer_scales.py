"""Which factors the layers of a network can take: the sites of ``scale`` as layers see them.

A layer (or the weight of a norm) divides what it makes by a factor per channel, its readers
multiply it again.  Channels that share a factor are one class; a channel of a head is one by
itself where every head can take its own (`Heads`).  Where ``shift`` has a site of the
same channels, something can be taken off them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.actions import scale, shift
from ...ir.coupling import Action, Heads, Site, Sites, heads
from ...ir.graph import Graph, Node, Value
from ...ir.ops.index import Pad
from ...ir.types import Array
from ..linear import Linear

PINNED = 0
NORMS = frozenset({"LayerNormalization", "RMSNormalization"})


@dataclass
class LayerScales:
    """Classes of channels that share a factor; class 0 is pinned to one.

    ``count`` classes; ``outputs`` and ``inputs`` give per layer (by the name of its result) the
    class of every channel that it makes and that it reads.  Layers that are ``fixed`` do not
    multiply.  Norms and ``products`` (names of results with channels last) only make channels.
    ``shifts``: bool per class, whether something can be added to its channels.
    """

    graph: Graph
    fixed: Callable[[Linear], bool] = lambda layer: False
    products: Sequence[str] = ()
    sites: Sites = field(init=False, repr=False)
    heads: list[tuple[Heads, Array]] = field(init=False, repr=False)
    count: int = field(init=False)
    outputs: dict[str, Array] = field(init=False)
    inputs: dict[str, Array] = field(init=False)
    shifts: Array = field(init=False)

    def __post_init__(self) -> None:
        self.sites = Sites(self.graph, Action.SCALE)
        layers = [x for x in map(Linear.of, self.graph.nodes) if x is not None]
        free = self._free(layers)
        numbers = np.cumsum(free)
        self._class = np.where(free, numbers, PINNED)
        self.count = int(free.sum()) + 1
        self.heads = []
        for one in self._free_heads(layers):
            blocks, channels = one.shape
            own = self.count + np.arange(blocks * channels)
            self.heads.append((one, own.reshape(one.shape)))
            self.count += blocks * channels
        self.inputs = {x.node.output.name: self._classes(*_read(x)) for x in layers}
        made = [_made(x) for x in layers]
        norms = [n.output for n in self.graph.nodes if n.op.name in NORMS]
        made += [
            (y, y.type.rank - 1) for y in (*norms, *map(self.graph.__getitem__, self.products))
        ]
        self.outputs = {y.name: self._classes(y, axis) for y, axis in made}
        self.shifts = self._shifts(layers)

    def applied(self, factors: Array, shifts: Array | None = None) -> Graph:
        """A copy of the graph whose channels are divided by ``factors`` per class.

        What ``shifts`` says per class is taken off them first.
        """
        single = np.where(self._class == PINNED, 1.0, 1 / factors[self._class])
        scaled = scale(self.sites, single, [(one, 1 / factors[own]) for one, own in self.heads])
        if shifts is None or not shifts.any():
            return scaled
        sites = Sites(scaled, Action.SHIFT)
        amount = np.zeros(sites.count)
        for name, classes in self.inputs.items():
            node = scaled[name].producer
            layer = None if node is None else Linear.of(node)
            assert layer is not None
            moved = np.flatnonzero(shifts[classes])
            if len(moved):
                (components,) = sites.channels(*_read(layer))
                own = classes[moved]
                amount[components[moved]] = -shifts[own] / factors[own]
        return shift(sites, amount)

    def _shifts(self, layers: Sequence[Linear]) -> Array:
        """Classes whose channels are those of a site of shifts, wherever a layer reads them."""
        sites = Sites(self.graph, Action.SHIFT)
        free = np.zeros(sites.count, bool)
        for site in sites.groups:
            free[site.channels] = not site.why and not _turned(site)
        read: dict[int, set[int]] = {}
        makes: dict[int, set[int]] = {}
        several = np.zeros(self.count, bool)
        for layer in layers:
            classes, factors = self.inputs[layer.node.output.name], sites.channels(*_read(layer))
            if len(factors) != 1:
                several[classes] = True
                continue
            for c, i in zip(classes.tolist(), factors[0].tolist(), strict=True):
                read.setdefault(c, set()).add(i)
                makes.setdefault(i, set()).add(c)
        out = np.zeros(self.count, bool)
        for c, found in read.items():
            out[c] = len(found) == 1 and all(free[i] and makes[i] == {c} for i in found)
        several[PINNED] = True
        return np.asarray(out & ~several)

    def _free(self, layers: list[Linear]) -> Array:
        """The components that layers make or read, and that are worth scaling on their own."""
        free, seen, held = (np.zeros(self.sites.count, bool) for _ in range(3))
        for site in self.sites.groups:
            free[site.channels] = not site.why and not _turned(site)
        for layer in layers:
            for ends, fixed in ((_read(layer), self.fixed(layer)), (_made(layer), False)):
                factors = self.sites.channels(*ends)
                for components in factors:
                    seen[components] = True
                    held[components] |= fixed or len(factors) > 1  # a product: heads x channels
        for node in self.graph.nodes:
            if isinstance(node.op, Pad):
                held |= self._widened(node)
        return free & seen & ~held

    def _free_heads(self, layers: Sequence[Linear]) -> Iterator[Heads]:
        """The heads whose channels some layer makes and others read, none of them fixed."""
        for one in heads(self.sites):
            if _turned(one.blocks) or _turned(one.channels):
                continue
            made, read = (
                [x for x in layers if one.along(self.sites, *ends(x)) is not None]
                for ends in (_made, _read)
            )
            if made and read and not any(map(self.fixed, read)):
                yield one

    def _widened(self, node: Node) -> Array:
        """The components of a shortcut that zeros widen: a factor of one stage suits no other.

        (Free, they cost ResNet-20 0.13 dB, whose three stages are one residual stream.)
        """
        x, y = node.operands[0], node.output
        out = np.zeros(self.sites.count, bool)
        for axis in range(y.type.rank):
            if x.type.shape[axis] != y.type.shape[axis]:
                for components in self.sites.channels(y, axis):
                    out[components] = True
        return out

    def _classes(self, value: Value, axis: int) -> Array:
        factors = self.sites.channels(value, axis)
        if len(factors) == 1:
            return self._class[factors[0]]
        for one, own in self.heads:
            pairs = one.along(self.sites, value, axis)
            if pairs is not None:
                return np.asarray(own.ravel()[pairs])
        return np.zeros(value.shape[axis], int)


def _turned(site: Site) -> bool:
    """Whether some activation is divided where another is multiplied, as queries and keys are."""
    return any(p.power < 0 for p in site.places if not p.value.is_constant)


def _read(layer: Linear) -> tuple[Value, int]:
    return layer.node.operands[0], layer.axis


def _made(layer: Linear) -> tuple[Value, int]:
    y = layer.node.output
    return y, 1 if layer.is_conv else y.type.rank - 1
