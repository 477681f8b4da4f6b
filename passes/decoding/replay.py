"""Making a network again with other lengths of its axes of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from ...ir import ops
from ...ir.graph import Graph, Node, Value
from ...ir.ops.base import Op
from ...ir.types import Array
from .times import Rows, Times, Timing


class Replay(ABC):
    """Walks through a network whose times are known and emits it into ``out``.

    ``sizes``: of the axes of positions that look, and of those looked at.
    """

    sizes: tuple[int, int]

    def __init__(self, timing: Timing, out: Graph) -> None:
        self.timing, self.out = timing, out
        self.twin: dict[int, Value] = {}
        self.arrays: dict[tuple[int, Rows], Value] = {}

    def run(self) -> Graph:
        """The new graph."""
        graph = self.timing.graph
        self.start()
        for node in graph.nodes:
            ins = [self.operand(node, i, v) for i, v in enumerate(node.inputs)]
            names = [v.name for v in node.outputs]
            made = self.out.add(self.resized(node), ins, names=names, origin=node.origin)
            self.twin.update(zip(map(id, node.outputs), made.outputs, strict=True))
        self.out.outputs = [self.twin[id(v)] for v in graph.outputs]
        self.finish()
        self.out.prune()
        return self.out

    @abstractmethod
    def start(self) -> None:
        """Make the inputs."""

    def finish(self) -> None:
        """Add to what was made; by default nothing."""
        return

    @abstractmethod
    def constant_rows(self, data: Array, name: str, rows: Rows) -> Array | Value:
        """What stands for a constant that says something for every position."""

    def operand(self, node: Node, index: int, value: Value | None) -> Value | None:
        """The operand in the new graph."""
        if value is None:
            return None
        rows = self.timing.rows.get((id(node), index))
        if rows is None:
            return self.plain(value)
        if (id(value), rows) not in self.arrays:
            data = self.timing.data(value)
            assert data is not None
            made = self.constant_rows(data, value.name, rows)
            if not isinstance(made, Value):
                made = self.out.constant(made, value.name)
            self.arrays[id(value), rows] = made
        return self.arrays[id(value), rows]

    def plain(self, value: Value) -> Value:
        """A value as it is; constants are copied when they are first read."""
        if id(value) not in self.twin:
            assert value.data is not None
            self.twin[id(value)] = self.out.constant(value.data, value.name, value.type)
        return self.twin[id(value)]

    def resized(self, node: Node) -> Op:
        """The op with the new lengths in its attributes."""
        times = self.timing.of(node.output)
        if times is None or not isinstance(node.op, ops.Reshape | ops.Expand):
            return node.op
        return replace(node.op, shape=self.shape(node.output, times))

    def shape(self, value: Value, times: Times) -> tuple[int, ...]:
        """The new shape of a value."""
        shape = list(value.shape)
        shape[times.query] = self.sizes[0]
        if times.key is not None:
            shape[times.key] = self.sizes[1]
        return tuple(shape)
