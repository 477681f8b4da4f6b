"""Products of integers as other tools leave them in ONNX: int32 sums, zero points as operands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Value
from ..types import Array, TensorType
from .accumulate import conv_accumulate
from .base import Op, Operands, given, operand, optional
from .nn import Conv, MatMul

_CODES = ("uint8", "int8")


@dataclass(frozen=True)
class MatMulInteger(Op):
    """``(a - a_zero) @ (b - b_zero)`` in int32; operands: a, b, a_zero?, b_zero?.

    ``a_zero`` has one number, or one per row; ``b_zero`` one, or one per column.
    """

    def infer(self, ins: Operands) -> list[TensorType]:
        (sums,) = MatMul().infer(_as_int32(ins))
        return [sums]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a = _centred(given(ins), optional(ins, 2), -2)
        b = _centred(given(ins, 1), optional(ins, 3), -1)
        return [np.asarray(np.matmul(a, b)).astype(np.int32)]


@dataclass(frozen=True)
class ConvInteger(Op):
    """Convolution of ``x - x_zero`` with ``w - w_zero`` in int32; operands: x, w, x_zero?, w_zero?.

    What is padded is ``x_zero``; ``w_zero`` has one number, or one per output channel.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        op = Conv(self.strides, self.pads, self.dilations, self.group)
        (sums,) = op.infer(_as_int32(ins))
        return [sums]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = _centred(given(ins), optional(ins, 2), 0)
        w = _centred(given(ins, 1), optional(ins, 3), 0)
        sums = conv_accumulate(x, w, self.strides, self.pads, self.dilations, self.group, 0)
        return [sums.astype(np.int32)]


def _as_int32(ins: Operands) -> list[Value]:
    """The two factors as values of the sums' type; ``ValueError`` unless they are 8-bit codes."""
    factors = [operand(ins, i) for i in range(2)]
    for value in factors:
        if value.type.dtype not in _CODES:
            raise ValueError(f"{value!r} does not hold codes of 8 bits")
    return [Value(v.name, TensorType("int32", v.type.shape)) for v in factors]


def _centred(x: Array, zero: Array | None, axis: int) -> Array:
    """``x - zero`` in float64, where products of codes are exact."""
    wide = x.astype(np.float64)
    if zero is None:
        return wide
    if zero.size == 1 or zero.ndim > 1:
        return wide - (zero.reshape(()) if zero.size == 1 else zero)
    shape = [1] * x.ndim
    shape[axis] = -1
    return wide - zero.reshape(shape)
