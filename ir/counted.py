"""Loops of a known number of trips, which nothing ends earlier, as scans over their numbers.

What a Scan yields has a shape that is known before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .graph import Graph, Value
from .ops.control import Loop, Scan
from .types import Array

Known = Callable[[Value | None], Array | None]

MOST = 1 << 20
"""A loop of more trips stays one: nobody means to take them all."""


def trips_of(op: Loop, ins: Sequence[Value | None], known: Known) -> int | None:
    """How often a loop goes around, where that is certain."""
    count, going = known(ins[0]), known(ins[1])
    begins = ins[1] is None or (going is not None and bool(going.reshape(())))
    if count is None or not begins or not _goes_on(op.body):
        return None
    trips = max(int(count.reshape(())), 0)
    return trips if trips <= MOST else None


def counted(op: Loop, ins: Sequence[Value | None], numbers: Value) -> tuple[Scan, list[Value]]:
    """The scan over ``numbers``, the loop's trips in their order."""
    end = 2 + op.carried
    states, captures = ins[2:end], ins[end:]
    present = [v for v in (*states, numbers, *captures) if v is not None]
    return Scan(_body(op), op.carried, 1), present


def _goes_on(body: Graph) -> bool:
    """Whether the condition for the next trip is always true, or that of this one."""
    value = body.outputs[0]
    while value.producer is not None and value.producer.op.name == "Identity":
        value = value.producer.operands[0]
    return value is body.inputs[1] or (value.data is not None and bool(value.data.all()))


def _body(op: Loop) -> Graph:
    """The body with the states first, then the trip's number; its condition is true."""
    body = op.body
    count, condition, *rest = body.inputs
    out = Graph(body.name)
    twin: dict[int, Value] = {}
    for value in (*rest[: op.carried], count, *rest[op.carried :]):
        twin[id(value)] = out.input(value.name, value.type)
    twin[id(condition)] = out.constant(np.asarray(True), condition.name)
    for value in body.constants:
        if value.data is not None:
            twin[id(value)] = out.constant(value.data, value.name, value.type)
    for node in body.nodes:
        inputs = [None if v is None else twin[id(v)] for v in node.inputs]
        names = [v.name for v in node.outputs]
        made = out.add(node.op, inputs, names=names, origin=node.origin)
        twin.update(zip(map(id, node.outputs), made.outputs, strict=True))
    out.outputs = [twin[id(v)] for v in body.outputs[1:]]
    out.prune()
    return out
