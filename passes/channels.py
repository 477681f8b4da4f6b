"""Which channels of a network may be scaled: what a layer divides, its readers multiply again.

Every output channel of a layer gets a number of its own; the numbers travel through the network as
arrays of the values' own shapes, moved by the ``eval`` of the very ops that move the values.  What
adds two channels makes them one class; what does not commute with a positive factor pins it.

Until the coupling analysis of all ops takes over, this is its part for scales of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import networkx as nx
import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.types import Array
from .linear import Linear

PINNED = 0
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})
MOVES = frozenset({
    "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Concat",
    "DepthToSpace", "SpaceToDepth", "Expand", "Tile",
})  # fmt: skip
PER_MAP = frozenset({
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Pad",
})  # fmt: skip
FLOAT = frozenset({"SelectiveScan"})
"""Ops without an integer form that end in float anyway: a product behind them costs next to
nothing, and takes up factors of their last axis."""


@dataclass
class Scales:
    """Classes of channels that share a factor; class 0 is pinned to one.

    ``outputs`` and ``inputs`` give per layer (by the name of its result) the class of every
    channel that it makes and that it reads; ``FLOAT`` ops only make some.
    """

    count: int = 1
    outputs: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)


def scales(graph: Graph, fixed: Callable[[Linear], bool] = lambda layer: False) -> Scales:
    """The classes of ``graph``'s channels.  Shapes must be static where anything is to be free.

    Layers that are ``fixed`` do not take up factors.
    """
    walk = _Walk(fixed)
    for node in graph.nodes:
        walk.visit(node)
    for value in graph.outputs:
        walk.pin(value)
    return walk.result()


class _Walk:
    """Class numbers per value while the nodes are visited in order."""

    def __init__(self, fixed: Callable[[Linear], bool]) -> None:
        self.fixed = fixed
        self.made = 1
        self.classes: nx.utils.UnionFind = nx.utils.UnionFind([PINNED])
        self.tags: dict[int, Array] = {}
        self.found = Scales()

    def visit(self, node: Node) -> None:
        layer = Linear.of(node)
        rule: Callable[[Node], bool] | None = None
        if layer is not None and len(node.operands[1].uses) == 1 and not _symbolic(node):
            self._layer(layer)
            return
        if not _symbolic(node):
            name = node.op.name
            if name in FLOAT:
                self._make(node.output, node.output.type.rank - 1)
            rule = {"Add": self._sum, "Sub": self._sum}.get(name)
            if name in HOMOGENEOUS or name in MOVES:
                rule = self._move
            elif name in PER_MAP:
                rule = self._per_map
        if rule is None or not rule(node):
            for value in node.operands:
                self.pin(value)

    def of(self, value: Value) -> Array:
        """The classes of a value's elements, in its shape."""
        return self.tags.get(id(value), np.broadcast_to(np.int64(PINNED), value.shape))

    def pin(self, value: Value) -> None:
        """Nothing in ``value`` may be scaled."""
        if id(value) in self.tags:
            self.classes.union(PINNED, *map(int, np.unique(_thin(self.tags[id(value)]))))

    def result(self) -> Scales:
        roots = np.array([self.classes[i] for i in range(self.made)])
        roots[roots == self.classes[PINNED]] = -1
        free, index = np.unique(roots, return_inverse=True)
        index = index + (free[0] != -1)
        out = Scales(int(index.max(initial=0)) + 1)
        out.outputs = {name: index[tags] for name, tags in self.found.outputs.items()}
        out.inputs = {name: index[tags] for name, tags in self.found.inputs.items()}
        return out

    def _layer(self, layer: Linear) -> None:
        node = layer.node
        x, y = node.operands[0], node.output
        vector = _per_channel(self.of(x), layer.axis)
        if vector is None or self.fixed(layer):
            self.pin(x)
            vector = np.zeros(layer.channels[0], np.int64)
        self.found.inputs[y.name] = vector
        self._make(y, 1 if layer.is_conv else y.type.rank - 1)

    def _make(self, y: Value, axis: int) -> None:
        """Classes of their own for the channels of a result."""
        own = np.arange(self.made, self.made + y.shape[axis])
        self.made += len(own)
        for i in own:
            self.classes[int(i)]  # a class of its own
        self.found.outputs[y.name] = own
        self.tags[id(y)] = _spread(own, y, axis)

    def _sum(self, node: Node) -> bool:
        a, b = node.operands
        if a.is_constant or b.is_constant or a.type.shape != b.type.shape:
            return False
        left, right = _thin(np.stack([self.of(a), self.of(b)]), keep=1)
        for one, other in np.unique(np.stack([left.ravel(), right.ravel()]), axis=1).T:
            self.classes.union(int(one), int(other))
        self.tags[id(node.output)] = self.of(a)
        return True

    def _move(self, node: Node) -> bool:
        moved = node.operands if node.op.name == "Concat" else node.operands[:1]
        if any(v.data is None for v in node.operands[len(moved) :]):
            return False
        if node.op.name in HOMOGENEOUS:
            self.tags[id(node.output)] = self.of(node.operands[0])
            return True
        ids = [None if v is None else self.of(v) if v in moved else v.data for v in node.inputs]
        for value, tags in zip(node.outputs, node.op.eval(ids), strict=True):
            self.tags[id(value)] = np.asarray(tags)
        return True

    def _per_map(self, node: Node) -> bool:
        x, y = node.operands[0], node.output
        vector = _per_channel(self.of(x), 1) if x.type.rank > 2 else None
        if vector is None or x.shape[:2] != y.shape[:2] or not _keeps_zero(node):
            return False
        self.tags[id(y)] = _spread(vector, y, 1)
        return len(node.outputs) == 1


def _keeps_zero(node: Node) -> bool:
    """Whether padding adds zeros (or copies), which no factor changes."""
    op = node.op
    return op.name != "Pad" or (len(node.operands) == 1 and getattr(op, "value", 0.0) == 0)


def _symbolic(node: Node) -> bool:
    values = chain(node.operands, node.outputs)
    return not all(isinstance(d, int) for v in values for d in v.type.shape)


def _thin(tags: Array, keep: int = 0) -> Array:
    """``tags`` without repeats along axes that are only broadcast (from axis ``keep`` on)."""
    cut = (slice(0, 1) if i >= keep and s == 0 else slice(None) for i, s in enumerate(tags.strides))
    return tags[tuple(cut)]


def _per_channel(tags: Array, axis: int) -> Array | None:
    """The class of every index of ``axis``, if all elements of one index agree."""
    rows = np.moveaxis(_thin(tags) if tags.strides[axis] else tags, axis, 0)
    rows = rows.reshape(len(rows), -1)
    same = rows.shape[1] > 0 and bool((rows == rows[:, :1]).all())
    return np.broadcast_to(rows[:, 0], (tags.shape[axis],)) if same else None


def _spread(vector: Array, value: Value, axis: int) -> Array:
    shape = [1] * value.type.rank
    shape[axis] = -1
    return np.broadcast_to(vector.reshape(shape), value.shape)
