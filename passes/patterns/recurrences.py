"""Linear recurrences over time, as exporters write them.

::

    h[t] = exp(...) * h[t - 1] + added[t]        y[t] = sum over states of c[t] * h[t]

Three forms are read: unrolled step by step, as the body of a Scan, and in log2(length) doublings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...ir.graph import Node, Value
from ...ir.ops.control import Scan
from ...ir.ops.elementwise import Add
from ...ir.ops.nn import MatMul
from ...ir.ops.reduce import ReduceSum
from ...ir.ops.shape import Concat
from .doubling import first_level
from .products import At, Entered, Factor, Power, Products, aligned, source

TIME, STATE = "t", "n"
"""Letters of the axes that a recurrence runs and is read out along."""


@dataclass(frozen=True)
class Recurrence:
    """The factors of each step's power, of what it adds and reads out; time as a letter.

    ``start``: the state before the first step.  ``states``: the coordinates of a state.
    """

    power: tuple[Factor, ...]
    added: tuple[Factor, ...]
    readout: Factor
    start: Factor | None
    states: At
    time: str = TIME
    reverse: bool = False


@dataclass(frozen=True)
class Step:
    """``state = exp(power) * before + added``."""

    power: tuple[Factor, ...]
    before: tuple[Factor | Power, ...]
    added: tuple[Factor, ...]


def unrolled(node: Node) -> Recurrence | None:
    """The recurrence whose readouts ``node``, a Concat, puts one after another."""
    op, length = node.op, len(node.operands)
    assert isinstance(op, Concat)
    axis = op.axis % node.output.type.rank
    if length < 2 or any(v.type.shape[axis] != 1 for v in node.operands):
        return None
    at = letters(node.output)
    found: list[tuple[Factor, Step, Factor]] = []
    for value in node.operands:
        one = _read_out(Products(), value, at)
        if one is None:
            return None
        found.append(one)
    order = _order(found)
    if order is None:
        return None
    power = _along(found_step.power for _, found_step, _ in found)
    added = _along(found_step.added for _, found_step, _ in found)
    readout = _along((c,) for _, _, c in found)
    start = found[order[0]][1].before
    if not power or not added or not readout or len(start) != 1 or isinstance(start[0], Power):
        return None
    reverse = order[0] != 0
    return Recurrence(power, added, readout[0], start[0], found[0][0].at, TIME, reverse)


def scanned(node: Node) -> Recurrence | None:
    """The recurrence that ``node``, a Scan, does: one state, and its readout as second result."""
    op = node.op
    assert isinstance(op, Scan)
    body = op.body
    if op.carried != 1 or len(body.outputs) != 2:
        return None
    scanned_inputs = body.inputs[1 : 1 + op.scanned]
    given = zip(body.inputs[1:], node.inputs[1:], strict=True)
    inputs = {
        id(own): Entered(outer, any(own is v for v in scanned_inputs))
        for own, outer in given
        if outer is not None
    }
    one = _read_out(Products(inputs), body.outputs[1], letters(node.outputs[1])[1:])
    start = node.inputs[0]
    if one is None or start is None:
        return None
    state, step, readout = one
    before = (Factor(body.inputs[0], aligned(body.inputs[0], state.at)),)
    if state.value is not body.outputs[0] or step.before != before:
        return None
    begin = Factor(start, aligned(start, state.at))
    return Recurrence(step.power, step.added, readout, begin, state.at)


def parallel(node: Node) -> Recurrence | None:
    """The recurrence whose states, all at once, ``node`` sums over (ReduceSum or MatMul)."""
    products = Products()
    for state, readout in _summed(products, node.output, letters(node.output)):
        first = first_level(state.value)
        if first is None:
            continue
        time = state.at[first.axis]
        powers = products.factors(first.decay, state.at)
        parts = products.factors(first.before, state.at)
        if len(powers) == 1 and isinstance(powers[0], Power) and isinstance(time, str):
            plain = tuple(f for f in parts if isinstance(f, Factor))
            if len(plain) == len(parts):
                states = tuple(i for i in state.at if i != time)
                return Recurrence(powers[0].factors, plain, readout, None, states, time)
    return None


def letters(value: Value) -> At:
    """A letter for every axis that is longer than 1; ``t`` is the axis of a sequence's steps."""
    return tuple(0 if d == 1 else f"{k}" for k, d in enumerate(value.type.shape))


# -- parts -----------------------------------------------------------------------------------


def _read_out(products: Products, value: Value, at: At) -> tuple[Factor, Step, Factor] | None:
    """A state, the step that makes it, and what it is read out by, if ``value`` is the sum."""
    for state, readout in _summed(products, value, at):
        if (step := _step(products, state)) is not None:
            return state, step, readout
    return None


def _summed(products: Products, value: Value, at: At) -> Iterator[tuple[Factor, Factor]]:
    """The two factors that ``value`` is a sum of along the axis ``n``, in both orders."""
    back: tuple[Value, At] | None = (value, at)
    while back is not None:
        value, at = back[0], aligned(*back)
        node = value.producer
        if node is None:
            return
        if isinstance(node.op, ReduceSum | MatMul):
            found = _terms(products, node, at)
            if len(found) == 2 and all(isinstance(f, Factor) and STATE in f.at for f in found):
                a, b = (f for f in found if isinstance(f, Factor))
                yield a, b
                yield b, a
            return
        back = source(node, value, at)


def _terms(products: Products, node: Node, at: At) -> list[Factor | Power]:
    """The factors of what a ReduceSum or MatMul sums at ``at``."""
    if isinstance(node.op, ReduceSum):
        x, axes = node.operands[0], node.op.axes
        if axes is None or len(axes) != 1:
            return []
        k = axes[0] % x.type.rank
        return products.factors(x, (*at[:k], STATE, *at[k + node.op.keepdims :]))
    a, b = node.operands
    if min(a.type.rank, b.type.rank) < 2:
        return []
    left = products.factors(a, (*at[:-1], STATE))
    return left + products.factors(b, (*at[:-2], STATE, at[-1]))


def _step(products: Products, state: Factor) -> Step | None:
    """How the state comes from the one before it."""
    node = state.value.producer
    if node is None or not isinstance(node.op, Add):
        return None
    for kept, other in (node.operands, node.operands[::-1]):
        found = products.factors(kept, aligned(kept, state.at))
        powers = [f for f in found if isinstance(f, Power)]
        added = products.factors(other, aligned(other, state.at))
        if len(powers) == 1 and not any(isinstance(f, Power) for f in added):
            rest = tuple(f for f in found if f is not powers[0])
            plain = tuple(f for f in added if isinstance(f, Factor))
            return Step(powers[0].factors, rest, plain)
    return None


def _order(found: Sequence[tuple[Factor, Step, Factor]]) -> range | None:
    """The positions in the order of time; None if the states do not follow one another."""
    forwards = range(len(found))
    for order in (forwards, forwards[::-1]):
        if all(found[b][1].before == (found[a][0],) for a, b in pairwise(order)):
            return order
    return None


def _along(steps: Iterable[tuple[Factor, ...]]) -> tuple[Factor, ...] | None:
    """The factors of all steps as factors over time, if step ``i`` reads position ``i``."""
    rows = [sorted(row, key=lambda f: f.value.name) for row in steps]
    if len({tuple(f.value for f in row) for row in rows}) != 1:
        return None
    out: list[Factor] = []
    for column in zip(*rows, strict=True):
        value, at = column[0]
        moving = [k for k in range(len(at)) if any(f.at[k] != at[k] for f in column)]
        for k in moving:
            own = [f.at[k] for f in column]
            if own != list(range(len(rows))) or value.type.shape[k] != len(rows):
                return None
            at = (*at[:k], TIME, *at[k + 1 :])
        if len(moving) > 1:
            return None
        out.append(Factor(value, at))
    return tuple(out)
