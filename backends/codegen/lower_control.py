"""If, Loop and Scan: inner graphs become stretches of calls that branch or go around.

What a loop carries lies in memory of its own: an iteration reads it, and in the end its new values
are copied there.  Elements that are scanned are copied to one place, and what an iteration yields
to its row of the result, by addresses that move on with the iterations.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Graph, Node, Value
from ...ir.ops.control import If, Loop, Scan
from .generic import Generic
from .layout import rows
from .lower import Lowering, Place, memory_dtype
from .pointwise import Copy

MOST_TRIPS = 1 << 20
"""A loop that may go around more often counts as one without bound."""


def lower_if(low: Lowering, node: Node) -> None:
    """Both branches, each with a condition; they write the same results."""
    op = node.op
    assert isinstance(op, If)
    condition = low.as_rows(low.place(node.operands[0])).pointer
    outs = [low.result(v) for v in node.outputs]
    captured = [low.place(v) for v in node.operands[1:]]
    for graph, when in ((op.then_branch, True), (op.else_branch, False)):
        with low.program.region(condition=condition, when=when):
            for found, out in zip(_inside(low, node, graph, captured), outs, strict=True):
                low.copy(found, out)


def lower_scan(low: Lowering, node: Node) -> None:
    """A loop of as many trips as there are elements to scan."""
    op = node.op
    assert isinstance(op, Scan)
    end = op.carried + op.scanned
    states = [_state(low, v) for v in node.operands[: op.carried]]
    sources = [low.place(v) for v in node.operands[op.carried : end]]
    captured = [low.place(v) for v in node.operands[end:]]
    yields = [low.result(v) for v in node.outputs[op.carried :]]
    with low.program.region(node.operands[op.carried].shape[0]):
        elements = [_element(low, s) for s in sources]
        found = _inside(low, node, op.body, [*states, *elements, *captured])
        for value, result in zip(found[op.carried :], yields, strict=True):
            _yield(low, value, result)
        _carry(low, found[: op.carried], states)
    for last, place in zip(node.outputs, states, strict=False):
        low.places[id(last)] = place


def lower_loop(low: Lowering, node: Node) -> None:
    """A loop that a condition may end earlier; one that is only counted is a Scan by now."""
    op = node.op
    assert isinstance(op, Loop)
    trips, going = node.inputs[:2]
    if trips is None or trips.data is None or trips.data.reshape(-1)[0] > MOST_TRIPS:
        raise BackendError(
            f"node {node.name!r}: a Loop without bound cannot be compiled; give it a constant trip "
            f"count of at most {MOST_TRIPS}"
        )
    count = max(int(trips.data.reshape(-1)[0]), 0)
    states = [_state(low, v) for v in node.inputs[2 : 2 + op.carried] if v is not None]
    captured = [low.place(v) for v in node.inputs[2 + op.carried :] if v is not None]
    numbers = low.constant(np.arange(max(count, 1), dtype=np.int64), f"{node.name}.trips")
    flag = low.fresh(rows("uint8", ()), f"{node.name}.going")
    low.copy(low.constant(np.ones((), np.uint8)) if going is None else low.place(going), flag)
    with low.program.region(count, flag.pointer):
        found = _inside(low, node, op.body, [_element(low, numbers), flag, *states, *captured])
        _carry(low, found, [flag, *states])
    for value, place in zip(node.outputs, states, strict=True):
        low.places[id(value)] = place


def _inside(low: Lowering, node: Node, graph: Graph, places: Sequence[Place]) -> list[Place]:
    """Lower an inner graph whose inputs are at ``places``; where its outputs are."""
    inner = low.enclosed(graph, node.name)
    inner.places.update(zip(map(id, graph.inputs), places, strict=True))
    inner.check()
    inner.walk()
    return [inner.place(v) for v in graph.outputs]


def _state(low: Lowering, initial: Value) -> Place:
    """Memory of its own for what a loop carries, with the first value in it."""
    dtype, shape = memory_dtype(initial.type.dtype), initial.shape
    place = low.fresh(rows(dtype, shape), f"{initial.name}.state")
    low.copy(low.place(initial), place)
    return place


def _carry(low: Lowering, found: Sequence[Place], states: Sequence[Place]) -> None:
    """Copy new values to their states; what lies in another state first goes out of the way."""
    owned = {id(s.buffer) for s in states}
    pairs = [(f, s) for f, s in zip(found, states, strict=True) if f != s]
    apart = [(_aside(low, f) if id(f.buffer) in owned else f, s) for f, s in pairs]
    for value, state in apart:
        low.copy(value, state)


def _aside(low: Lowering, place: Place) -> Place:
    out = low.fresh(rows(place.view.dtype, place.view.shape), "aside")
    low.copy(place, out)
    return out


def _element(low: Lowering, source: Place) -> Place:
    """The element of this iteration, copied to one place."""
    view = replace(source.view, shape=source.view.shape[1:], strides=source.view.strides[1:])
    out = low.fresh(rows(view.dtype, view.shape), f"{source.buffer.name}.element")
    _step_copy(low, source.viewed(view), out, (_stride(source), 0))
    return out


def _yield(low: Lowering, value: Place, result: Place) -> None:
    """Copy what an iteration gives to its row of the result."""
    view = replace(result.view, shape=result.view.shape[1:], strides=result.view.strides[1:])
    _step_copy(low, value, result.viewed(view), (0, _stride(result)))


def _stride(place: Place) -> int:
    """Bytes from one element along axis 0 to the next."""
    return place.view.strides[0] * place.view.itemsize


def _step_copy(low: Lowering, source: Place, target: Place, steps: tuple[int, int]) -> None:
    """A copy whose addresses move on with the iterations."""
    if source.view.size:
        kernel = Generic(Copy(), (source.view,), (target.view,), low.fine)
        pointers = zip((source.pointer, target.pointer), steps, strict=True)
        low.program.call(kernel, tuple(replace(p, step=s) for p, s in pointers), low.where)
