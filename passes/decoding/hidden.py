"""What elementwise ops make of the elements above the diagonal of scores."""

from __future__ import annotations

import numpy as np

from ...ir import ops
from ...ir.graph import Node, Value
from ...ir.types import Array
from .times import Timing


def above_of(timing: Timing, node: Node, query: int, key: int | None) -> float | None:
    """What is known of the result above the diagonal (see ``Times.above``)."""
    assert key is not None
    view = _View(timing, node, query, key)
    bounds = [view.bound(v) for v in node.operands]
    op = node.op
    if isinstance(op, ops.Identity | ops.Cast):
        return bounds[0]
    if isinstance(op, ops.Quantize | ops.Dequantize | ops.DynamicDequantize):
        return 0.0 if bounds[0] == 0.0 else None
    if isinstance(op, ops.Where):
        return view.chosen()
    if isinstance(op, ops.Add | ops.Sum):
        return _added([b for b in bounds if b is not None])
    if isinstance(op, ops.Max) and None not in bounds:
        return max(b for b in bounds if b is not None)
    if isinstance(op, ops.Mul | ops.Div):
        return view.scaled(bounds)
    return None


def _added(bounds: list[float]) -> float | None:
    """A mask below everything else outweighs it."""
    low = [b for b in bounds if b < 0]
    return min(low) if low else None


class _View:
    """The operands of a node as they lie above the diagonal of its result."""

    def __init__(self, timing: Timing, node: Node, query: int, key: int) -> None:
        self.timing, self.node = timing, node
        shape = node.output.shape
        rows, columns = (np.arange(timing.length).reshape(_along(len(shape), a))
                         for a in (query, key))  # fmt: skip
        self.later = columns > rows
        self.spare = tuple(i for i in range(len(shape)) if i not in (query, key))

    def bound(self, value: Value) -> float | None:
        """An upper bound of an operand there; 0.0: it is zero."""
        if (times := self.timing.of(value)) is not None:
            return times.above
        data = self.timing.data(value)
        return None if data is None or data.dtype.kind not in "fi" else self._greatest(data)

    def _greatest(self, data: Array) -> float | None:
        seen = self._there(data)
        if not seen.any():
            return 0.0
        top = float(seen.max())
        return top if top < 0 else None

    def _there(self, data: Array) -> Array:
        """The elements of a constant above the diagonal."""
        whole = np.broadcast_to(data, np.broadcast_shapes(data.shape, self.later.shape))
        return np.asarray(whole[np.broadcast_to(self.later, whole.shape)])

    def chosen(self) -> float | None:
        """``Where`` with a condition that is known."""
        condition, a, b = self.node.operands
        data = self.timing.data(condition)
        if data is None or self.timing.of(condition) is not None:
            same = {self.bound(a), self.bound(b)}
            return same.pop() if same == {0.0} else None
        seen = self._there(data).astype(bool)
        bounds = [self.bound(v) for v, used in ((a, seen.any()), (b, not seen.all())) if used]
        if None in bounds:
            return None
        return max(b for b in bounds if b is not None)

    def scaled(self, bounds: list[float | None]) -> float | None:
        """A product: zero stays zero, a bound is scaled by a positive constant."""
        left, right = self.node.operands
        product = isinstance(self.node.op, ops.Mul)
        if bounds[0] == 0.0 or (product and bounds[1] == 0.0):
            return 0.0
        for bound, other in ((bounds[0], right), (bounds[1], left))[: 2 if product else 1]:
            data = self.timing.data(other)
            if bound is None or data is None or self.timing.of(other) or not (data > 0).all():
                continue
            return bound * float(data.min()) if product else bound / float(data.max())
        return None


def _along(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(-1 if i == axis else 1 for i in range(rank))
