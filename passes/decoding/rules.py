"""What each op does to time: the literal table, and the rules by kind of op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from ...ir import ops
from ...ir.graph import Node
from ...ir.ops.base import Op, normal_axis
from ...ir.ops.elementwise import Unary, Variadic
from ...ir.ops.reduce import ArgReduce, Reduce
from .hidden import above_of
from .products import multiplied
from .times import LOW, Times, Timing, refuse

Rule = Callable[[Timing, Node], Sequence[Times]]
"""Where time is in the results of a node; the node may be refused."""


def rule_of(op: Op) -> Rule | None:
    """The rule for ``op``, if it is known what it does to positions."""
    return next((rule for kinds, rule in RULES if isinstance(op, kinds)), None)


def elementwise(timing: Timing, node: Node) -> list[Times]:
    """Operands meet element by element, aligned at the last axis."""
    rank = node.output.type.rank
    tables = 1 if isinstance(node.op, ops.QTable | ops.DequantizeAccumulator) else 0
    query = key = None
    for value in node.operands:
        if (times := timing.of(value)) is None:
            continue
        shift = rank - value.type.rank
        query = _agreed(node, query, times.query + shift)
        if times.key is not None:
            key = _agreed(node, key, times.key + shift)
    assert query is not None
    if getattr(node.op, "axis", None) == query:
        refuse(node, "numbers of its own for every position")
    for index, operand in enumerate(node.inputs):
        if operand is not None and timing.of(operand) is None and not tables:
            timing.meet(node, index, query, key)
    above = above_of(timing, node, query, key) if key is not None else None
    return [Times(query, key, above)] * len(node.outputs)


def _agreed(node: Node, known: int | None, found: int) -> int:
    if known is not None and known != found:
        refuse(node, "positions meet other positions")
    return found


def _single(timing: Timing, node: Node) -> Times:
    """Time in the first operand, which alone may have any."""
    for value in node.operands[1:]:
        if timing.of(value):
            refuse(node, f"%{value.name} depends on the positions")
    times = timing.of(node.operands[0])
    assert times is not None
    return times


def normalised(timing: Timing, node: Node) -> list[Times]:
    """A softmax or norm: positions may not be among what is normalised together."""
    op: Any = node.op
    times, rank = _single(timing, node), node.operands[0].type.rank
    first = normal_axis(op.axis, rank) if hasattr(op, "axis") else 1
    alone = isinstance(op, ops.Softmax | ops.LogSoftmax | ops.Hardmax | ops.LpNormalization)
    axes = {first} if alone else set(range(first, rank))
    if times.query in axes:
        refuse(node, f"op {op.name} over positions")
    if times.key not in axes:
        return [times] * len(node.outputs)
    if not isinstance(op, ops.Softmax):
        refuse(node, f"op {op.name} over positions")
    if times.above is None or times.above > LOW:
        refuse(node, "no mask hides later positions from this softmax")
    return [Times(times.query, times.key, 0.0)]


def quantized_rows(timing: Timing, node: Node) -> list[Times]:
    """A range per row; what is hidden is zero, which every range holds."""
    op: Any = node.op
    times = _single(timing, node)
    axis = normal_axis(op.axis, node.operands[0].type.rank)
    if times.query >= axis or (times.key is not None and times.key >= axis and times.above != 0.0):
        refuse(node, "one range for several positions")
    rest = Times(times.query, times.key if times.key is not None and times.key < axis else None)
    return [times, rest, rest]


def reduced(timing: Timing, node: Node) -> list[Times]:
    """Reductions over axes that are not time."""
    op: Any = node.op
    times, rank = _single(timing, node), node.operands[0].type.rank
    given = (op.axis,) if isinstance(op, ArgReduce) else op.axes
    if given is None:
        given = range(rank) if len(node.operands) == 1 else ()
    axes = {normal_axis(a, rank) for a in given}
    if times.query in axes or times.key in axes or not axes:
        refuse(node, f"op {op.name} over positions")
    return [_renumbered(times, axes if not op.keepdims else set())]


def _renumbered(times: Times, gone: set[int]) -> Times:
    def moved(axis: int) -> int:
        return axis - sum(g < axis for g in gone)

    key = None if times.key is None else moved(times.key)
    return Times(moved(times.query), key, times.above)


def transposed(timing: Timing, node: Node) -> list[Times]:
    """Axes in another order."""
    op: Any = node.op
    times = _single(timing, node)
    key = None if times.key is None else op.perm.index(times.key)
    return [Times(op.perm.index(times.query), key, times.above)]


def reshaped(timing: Timing, node: Node) -> list[Times]:
    """Other axes around time, which must stay an axis of its own."""
    times, x, y = _single(timing, node), node.operands[0], node.output

    def moved(axis: int | None) -> int | None:
        if axis is None:
            return None
        before = prod(x.shape[:axis])
        for i, size in enumerate(y.shape):
            if size == x.shape[axis] and prod(y.shape[:i]) == before:
                return i
        refuse(node, f"positions are joined with another axis: {x.type} to {y.type}")
        return None

    query = moved(times.query)
    assert query is not None
    return [Times(query, moved(times.key), times.above)]


def expanded(timing: Timing, node: Node) -> list[Times]:
    """Repetition of other axes."""
    times = _single(timing, node)
    shift = node.output.type.rank - node.operands[0].type.rank
    key = None if times.key is None else times.key + shift
    return [Times(times.query + shift, key, times.above)]


def windowed(timing: Timing, node: Node) -> list[Times]:
    """Slices, splits and paddings that leave all positions where they are."""
    times, x = _single(timing, node), node.operands[0]
    for value in node.outputs:
        for axis in (times.query, times.key):
            if axis is not None and value.shape[axis] != x.shape[axis]:
                refuse(node, f"op {node.op.name} takes some of the positions")
    if isinstance(node.op, ops.Slice) and node.op.steps is not None and min(node.op.steps) < 0:
        refuse(node, "positions in another order")
    return [times] * len(node.outputs)


def joined(timing: Timing, node: Node) -> list[Times]:
    """Concatenation along an axis that is not time."""
    op: Any = node.op
    found = {t for v in node.operands if (t := timing.of(v)) is not None}
    axes = {(t.query, t.key) for t in found}
    axis = normal_axis(op.axis, node.output.type.rank)
    if len(axes) > 1 or any(axis in pair for pair in axes):
        refuse(node, "positions are joined with others")
    ((query, key),) = axes
    for index, value in enumerate(node.operands):
        if timing.of(value) is None:
            timing.meet(node, index, query, key)
    return [Times(query, key)]


def gathered(timing: Timing, node: Node) -> list[Times]:
    """Rows of a table by tokens, or elements along an axis that is not time."""
    op: Any = node.op
    x, indices = node.operands
    axis, ours, theirs = op.axis % x.type.rank, timing.of(x), timing.of(indices)
    if ours is None and theirs is not None:
        key = None if theirs.key is None else theirs.key + axis
        return [Times(theirs.query + axis, key)]
    if ours is None or theirs is not None or axis in (ours.query, ours.key):
        refuse(node, "op Gather takes some of the positions")
    assert ours is not None
    more = indices.type.rank - 1
    query = ours.query + more * (ours.query > axis)
    key = None if ours.key is None else ours.key + more * (ours.key > axis)
    return [Times(query, key, ours.above)]


RULES: tuple[tuple[Any, Rule], ...] = (
    ((ops.MatMul, ops.QMatMul, ops.Gemm), multiplied),
    (ops.DynamicQuantize, quantized_rows),
    ((ops.Reshape, ops.Flatten, ops.Squeeze, ops.Unsqueeze), reshaped),
    (ops.Transpose, transposed),
    (ops.Expand, expanded),
    ((ops.Slice, ops.Split, ops.Pad), windowed),
    (ops.Concat, joined),
    (ops.Gather, gathered),
    ((ops.Softmax, ops.LogSoftmax, ops.Hardmax, ops.LpNormalization), normalised),
    ((ops.LayerNormalization, ops.RMSNormalization), normalised),
    ((Reduce, ArgReduce), reduced),
    ((Unary, Variadic, ops.Where, ops.Cast, ops.Clip), elementwise),
    ((ops.Quantize, ops.Dequantize, ops.DynamicDequantize), elementwise),
    ((ops.QSum, ops.QMul, ops.QTable, ops.DequantizeAccumulator), elementwise),
)
"""By the class of the op; what is not here may mix positions."""
