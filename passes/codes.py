"""Reading a quantized float graph: which values are codes, and in what units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.graph import Graph, Value
from ..ir.ops.integer import QAveragePool, QConv, QMatMul, QMul, QSum, QTable
from ..ir.ops.integer_resize import QResize
from ..ir.ops.quantize import Dequantize, Quantize
from ..ir.types import Array
from .plan import MOVERS


@dataclass(frozen=True)
class Codes:
    """A per-tensor quantized value: ``real = (value - zero) * scale``."""

    value: Value
    scale: float
    zero: int

    @property
    def top(self) -> int:
        """The greatest code that can occur: 15 for 4 bits, though they are stored as uint8."""
        return greatest_code(self.value)


@dataclass(frozen=True)
class Integers:
    """Weights or bias as integers with one scale per channel."""

    data: Array
    scale: Array


@dataclass(frozen=True)
class Units:
    """The codes that a Quantize node asks for, narrowed by the clamps in front of it."""

    scale: float
    zero: int
    dtype: str
    low: int
    high: int

    @staticmethod
    def of(op: Quantize) -> Units:
        """The units of a per-tensor Quantize."""
        low, high = op.bounds
        return Units(op.scale[0], op.zero_point[0], op.dtype, low, high)

    def clamp(self, least: float | None, greatest: float | None) -> Units:
        """Narrowed to the codes of ``[least, greatest]``."""
        low, high = self.low, self.high
        if least is not None:
            low = int(np.clip(np.rint(least / self.scale) + self.zero, low, high))
        if greatest is not None:
            high = int(np.clip(np.rint(greatest / self.scale) + self.zero, low, high))
        return Units(self.scale, self.zero, self.dtype, low, high)


def codes_of(value: Value | None) -> Codes | None:
    """The unsigned codes behind a dequantized value, if it is one with a scale per tensor."""
    node = None if value is None else value.producer
    if node is None or not isinstance(node.op, Dequantize) or node.op.axis is not None:
        return None
    q = node.operands[0]
    if q.type.dtype not in ("uint8", "uint16"):
        return None
    return Codes(q, node.op.scale[0], node.op.zero_point[0])


def greatest_code(codes: Value) -> int:
    """A bound on codes by who made them, through ops that only move or mix them."""
    maker = codes.producer
    op = None if maker is None else maker.op
    if isinstance(op, Quantize):
        return op.bounds[1]
    if isinstance(op, QConv | QMatMul) and not op.epilogue.table:
        return op.epilogue.high
    if isinstance(op, QSum | QMul | QAveragePool):
        return op.high
    if maker is not None and isinstance(op, QTable):
        return int(np.max(np.asarray(maker.operands[1].data)))
    if maker is not None and (isinstance(op, QResize) or maker.op.name in MOVERS):
        return max(greatest_code(v) for v in maker.operands if v.type.dtype == codes.type.dtype)
    return int(np.iinfo(codes.type.dtype).max)


def integers_of(value: Value | None) -> Integers | None:
    """The constant integers behind a dequantized weight or bias, if it is one."""
    node = None if value is None else value.producer
    if node is None or not isinstance(node.op, Dequantize):
        return None
    data = node.operands[0].data
    if data is None or data.dtype.kind != "i":
        return None
    return Integers(data, np.asarray(node.op.scale, np.float64))


def private(graph: Graph, value: Value) -> bool:
    """Whether one node reads ``value``, once, and the graph does not return it."""
    return graph.sole_use(value) is not None
