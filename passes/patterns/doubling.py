"""A linear recurrence in log2(length) parallel steps, each of twice the reach.  ::

    b[t] = a[t] * b[t - k] + b[t]        a[t] = a[t] * a[t - k]        k = 1, 2, 4, ...

(Hillis and Steele, "Data parallel algorithms", 1986.)
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ...ir.ops.elementwise import Add, Mul
from ...ir.ops.index import Slice
from ...ir.ops.shape import Concat


@dataclass(frozen=True)
class Level:
    """``value[t] = decay[t] * before[t - shift] + before[t]``, before it ``before`` itself."""

    axis: int
    shift: int
    decay: Value
    before: Value


@dataclass(frozen=True)
class _Window:
    """Positions ``start`` to ``stop`` of one axis of a value."""

    value: Value
    axis: int
    start: int
    stop: int


def first_level(value: Value) -> Level | None:
    """The level of shift 1 that ``value`` is built on, if all levels up to its length are there."""
    level = _level(value)
    if level is None or 2 * level.shift < _length(value, level.axis):
        return None
    while level.shift > 1:
        half = level.shift // 2
        lower, decay = _level(level.before), _squared(level.decay, level.axis, half)
        if lower is None or (lower.axis, lower.shift, lower.decay) != (level.axis, half, decay):
            return None
        if 2 * half != level.shift:
            return None
        level = lower
    return level


def _level(value: Value) -> Level | None:
    """The level whose result ``value`` is."""
    halves = _halves(value)
    if halves is None:
        return None
    head, tail = halves
    axis, shift = head.axis, head.stop
    node, own = tail.producer, _Window(head.value, axis, shift, _length(value, axis))
    if node is None or not isinstance(node.op, Add):
        return None
    for product, rest in (node.operands, node.operands[::-1]):
        if _window(rest) == own and (decay := _lagged(product, head)) is not None:
            return Level(axis, shift, decay, head.value)
    return None


def _squared(value: Value, axis: int, shift: int) -> Value | None:
    """The decay whose products over ``shift`` ``value`` holds."""
    halves = _halves(value)
    if halves is None or (halves[0].axis, halves[0].stop) != (axis, shift):
        return None
    head, tail = halves
    return head.value if _lagged(tail, head) is head.value else None


def _halves(value: Value) -> tuple[_Window, Value] | None:
    """``Concat(before[:shift], tail)``."""
    node = value.producer
    if node is None or not isinstance(node.op, Concat) or len(node.operands) != 2:
        return None
    head, axis = _window(node.operands[0]), node.op.axis % value.type.rank
    if head is None or head.axis != axis or head.start or not _length(value, axis):
        return None
    same = head.value.type.shape == value.type.shape
    return (head, node.operands[1]) if same else None


def _lagged(value: Value, head: _Window) -> Value | None:
    """``decay`` where ``value`` is ``decay[shift:] * before[:-shift]``."""
    node, axis, shift = value.producer, head.axis, head.stop
    if node is None or not isinstance(node.op, Mul):
        return None
    length = _length(head.value, axis)
    early = _Window(head.value, axis, 0, length - shift)
    for a, b in (node.operands, node.operands[::-1]):
        late = _window(a)
        if late is None or _window(b) != early:
            continue
        if (late.axis, late.start, late.stop) == (axis, shift, length):
            return late.value if late.value.type.shape == head.value.type.shape else None
    return None


def _window(value: Value) -> _Window | None:
    """The window that a Slice of one axis takes."""
    node = value.producer
    if node is None or not isinstance(node.op, Slice) or node.op.starts is None:
        return None
    x, steps = node.operands[0], node.op.steps or ()
    pairs = list(zip(x.type.shape, value.type.shape, strict=True))
    axes = [k for k, (whole, part) in enumerate(pairs) if whole != part]
    if len(axes) != 1 or any(s != 1 for s in steps):
        return None
    taken = node.op.indices(x.type.shape)[axes[0]]
    return _Window(x, axes[0], int(taken[0]), int(taken[-1]) + 1) if len(taken) else None


def _length(value: Value, axis: int) -> int:
    """The length of an axis; 0 where it is a symbol."""
    length = value.type.shape[axis]
    return length if isinstance(length, int) else 0
