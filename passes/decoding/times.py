"""Where time is in the values of a network, and the proof that no position sees a later one.

Tokens have time on their second axis.  An op that treats positions alike hands the axis on; a
product of two values with time makes scores, whose rows are the positions that look and whose
columns those that are looked at.  What lies above the diagonal of scores must be driven so low by
a mask that a softmax makes it zero; only then may a product sum over the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph, Node, Value
from ...ir.types import Array

LOW = -1e4
"""What a mask must put scores below, so that their exponentials vanish beside the others."""


@dataclass(frozen=True)
class Times:
    """The axes of a value that are time; ``key`` is that of the positions a row looks at.

    ``above``: what is known of the elements above the diagonal: an upper bound below zero, 0.0
    where they are exactly zero (as codes: the zero point), None where nothing is known.
    """

    query: int
    key: int | None = None
    above: float | None = None


@dataclass(frozen=True)
class Rows:
    """A constant operand that says something for every position: its axes that are time."""

    query: int | None
    key: int | None


@dataclass
class Timing:
    """What is known of a network of ``length`` positions.

    ``times``: by the identity of values; values without time are absent.  ``rows``: by node and
    index of the operand.  ``cached``: the operands of products, by node and index, whose columns or
    rows are looked at.
    """

    graph: Graph
    length: int
    times: dict[int, Times] = field(default_factory=dict)
    rows: dict[tuple[int, int], Rows] = field(default_factory=dict)
    cached: dict[tuple[int, int], int] = field(default_factory=dict)
    known: dict[int, Array] = field(default_factory=dict)

    def of(self, value: Value | None) -> Times | None:
        """Where time is in ``value``, if it has any."""
        return None if value is None else self.times.get(id(value))

    def data(self, value: Value) -> Array | None:
        """The elements of a value that no input reaches."""
        if value.data is not None:
            return value.data
        node = value.producer
        if id(value) in self.known or node is None or not node.operands:
            return self.known.get(id(value))
        arrays = [None if v is None else self.data(v) for v in node.inputs]
        if any(a is None for a, v in zip(arrays, node.inputs, strict=True) if v is not None):
            return None
        for result, array in zip(node.outputs, node.op.eval(arrays), strict=True):
            self.known[id(result)] = array
        return self.known[id(value)]

    def meet(self, node: Node, index: int, query: int, key: int | None) -> Rows | None:
        """Note which axes of a constant operand lie at those of the result that are time."""
        value, rank = node.inputs[index], node.output.type.rank
        assert value is not None
        shift = rank - value.type.rank
        found = [
            axis - shift
            if axis is not None and axis >= shift and value.type.shape[axis - shift] == self.length
            else None
            for axis in (query, key)
        ]
        if found == [None, None]:
            return None
        self.rows[id(node), index] = Rows(*found)
        return self.rows[id(node), index]


def timing(graph: Graph) -> Timing:
    """Where time is in ``graph``, whose one input is whole numbers ``[batch, length]``.

    Raises ``PreconditionError`` naming the first node where a position may see a later one.
    """
    from .rules import rule_of

    found = Timing(graph, _tokens(graph).shape[1])
    found.times[id(graph.inputs[0])] = Times(1)
    for node in graph.nodes:
        if not any(found.of(v) for v in node.operands):
            continue
        rule = rule_of(node.op)
        if rule is None:
            refuse(node, f"op {node.op.name} may mix positions")
        results = rule(found, node)
        found.times.update(zip(map(id, node.outputs), results, strict=True))
    for value in graph.outputs:
        times = found.of(value)
        if times is None or times.query != 1 or times.key is not None:
            raise PreconditionError(
                f"output {value.name!r} ({value.type}) is not [batch, positions, ...]: a decoder "
                "gives a row for every token"
            )
    if not found.cached:
        raise PreconditionError(
            "the network has no attention: there is nothing to keep between steps"
        )
    return found


def refuse(node: Node, why: str) -> NoReturn:
    """``PreconditionError``: the network cannot be shown to be causal, because of ``node``."""
    raise PreconditionError(f"not causal as far as can be shown: node {node.name!r}: {why}")


def _tokens(graph: Graph) -> Value:
    """The input; ``PreconditionError`` where there are several, or other than tokens."""
    inputs = ", ".join(map(repr, graph.inputs))
    fits = len(graph.inputs) == 1 and not graph.states
    if fits:
        t = graph.inputs[0].type
        fits = t.rank == 2 and np.dtype(t.dtype).kind == "i"
        fits = fits and all(isinstance(d, int) for d in t.shape)
    if not fits:
        raise PreconditionError(
            f"a decoder takes one input, tokens int64[batch, length], not {inputs}"
        )
    return graph.inputs[0]
