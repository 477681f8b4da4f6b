"""Integer ops: what a folded graph is made of.  Their ``eval`` is what every backend must meet.

Accumulators are int32.  An :class:`Epilogue` says how they become the result; its arrays (bias,
multiplier, residual, table) are operands in that order.  The one float operation of a requantize
is a float32 product, so the integers are the same on every IEEE machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, Quantization, TensorType
from .accumulate import conv_accumulate, fused_multiply_add
from .base import (
    Op,
    Operands,
    broadcast,
    given,
    normal_axis,
    operand,
    optional,
    patches,
    window_output,
)


@dataclass(frozen=True)
class IntegerOp(Op):
    """An op of folded graphs; it has no ONNX form."""


@dataclass(frozen=True)
class Residual:
    """A second term of the sum, in fixed point: ``(t + r * multiplier + constant) >> shift``.

    ``t`` is the requantized accumulator in units of ``2**-shift`` output steps, ``r`` the codes of
    the residual operand; ``constant`` holds the zero points and the half for rounding up.
    """

    multiplier: int
    shift: int
    constant: int


@dataclass(frozen=True)
class Epilogue:
    """From an int32 accumulator (bias included) to the result of channel ``c``.

    ``v = float32(acc) * multiplier[c]``, one float32 product; then
    ``uint8``/``uint16``: ``clip(rint(v) + zero_point, low, high)``, or with a residual
    ``clip((int32(rint(v)) + r * M + C) >> shift, low, high)``; a table maps these codes once more.
    ``float32``: ``v`` itself, a dequantized result.  ``int32``: the accumulator.
    """

    dtype: str = "uint8"
    zero_point: int = 0
    low: int = 0
    high: int = 255
    residual: Residual | None = None
    table: bool = False
    scale: float = 1.0

    @property
    def extra(self) -> int:
        """Operands after bias and multiplier."""
        return (self.residual is not None) + self.table

    def result(self, shape: tuple[int | str, ...]) -> TensorType:
        """The type of the result; codes carry their quantization."""
        quant = None
        if self.dtype.startswith("uint"):
            quant = Quantization((self.scale,), (self.zero_point,))
        return TensorType(self.dtype, shape, quant)

    def apply(self, acc: Array, ins: Sequence[Array | None], channel_axis: int) -> Array:
        """The result for accumulators; ``ins`` are bias, multiplier, residual, table."""
        shape = [1] * acc.ndim
        shape[channel_axis] = -1
        if (bias := optional(ins, 0)) is not None:
            acc = acc + bias.astype(np.int64).reshape(shape)
        if self.dtype == "int32":
            return acc.astype(np.int32)
        multiplier = given(ins, 1).astype(np.float32).reshape(shape)
        v = acc.astype(np.int32).astype(np.float32) * multiplier
        if self.dtype == "float32":
            return np.asarray(v, np.float32)
        if (r := self.residual) is not None:
            t = np.rint(v).astype(np.int64) + given(ins, 2).astype(np.int64) * r.multiplier
            q = np.clip((t + r.constant) >> r.shift, self.low, self.high)
        else:
            q = np.clip(np.rint(v) + self.zero_point, self.low, self.high)
        codes = np.asarray(q.astype(self.dtype))
        if not self.table:
            return codes
        return np.asarray(given(ins, 2 + (self.residual is not None))[codes])


@dataclass(frozen=True)
class QConv(IntegerOp):
    """Convolution of codes: ``uint8[N,C,*S] , int8[O,C/group,*K] -> [N,O,*S']``.

    Operands: x, w, bias int32[O] (the input's zero point is folded in:
    ``bias - zp * sum(w)``), multiplier float32[O], then the epilogue's.  Padding is ``pad_value``,
    the code of zero, so that folding holds at the borders too.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1
    pad_value: int = 0
    epilogue: Epilogue = Epilogue()

    def infer(self, ins: Operands) -> list[TensorType]:
        x, w = operand(ins, 0).type, operand(ins, 1).type
        space = [_known(d) for d in x.shape[2:]]
        kernel = w.static[2:]
        n = len(space)
        out = [
            window_output(s, k, st, (self.pads[i], self.pads[i + n]), d)
            for i, (s, k, st, d) in enumerate(
                zip(space, kernel, self.strides, self.dilations, strict=True)
            )
        ]
        if _known(x.shape[1]) != w.static[1] * self.group:
            raise ValueError(f"input {x} does not match weights {w} in {self.group} groups")
        return [self.epilogue.result((x.shape[0], w.shape[0], *out))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        acc = conv_accumulate(
            given(ins),
            given(ins, 1),
            self.strides,
            self.pads,
            self.dilations,
            self.group,
            self.pad_value,
        )
        return [self.epilogue.apply(acc, ins[2:], 1)]


@dataclass(frozen=True)
class QMatMul(IntegerOp):
    """Product of codes ``a[..., M, K] @ b[..., K, N]`` with numpy's broadcasting of leading axes.

    ``b`` is int8 weights ``[K, N]`` (then ``a``'s zero point is folded into the bias and both zero
    points here are 0) or another activation (uint8, with its zero points subtracted in the sum).
    Operands: a, b, bias int32[N], multiplier float32[N] or [1], then the epilogue's.
    """

    a_zero_point: int = 0
    b_zero_point: int = 0
    epilogue: Epilogue = Epilogue()

    def infer(self, ins: Operands) -> list[TensorType]:
        a, b = operand(ins, 0).type, operand(ins, 1).type
        if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError(f"{a} and {b} do not multiply")
        lead = broadcast(a.shape[:-2], b.shape[:-2])
        return [self.epilogue.result((*lead, a.shape[-2], b.shape[-1]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a = given(ins).astype(np.float64) - self.a_zero_point
        b = given(ins, 1).astype(np.float64) - self.b_zero_point
        return [self.epilogue.apply(np.matmul(a, b).astype(np.int64), ins[2:], -1)]


@dataclass(frozen=True)
class QSum(IntegerOp):
    """Sum of codes in fixed point: ``clip((sum_i q_i * multipliers[i] + constant) >> shift)``.

    Residual add, subtraction (a negative multiplier), change of scale (one operand).  Operands
    broadcast as in numpy.  All partial sums fit int32.
    """

    multipliers: tuple[int, ...] = ()
    constant: int = 0
    shift: int = 0
    low: int = 0
    high: int = 255
    scale: float = 1.0
    zero_point: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        if len(ins) != len(self.multipliers):
            raise ValueError(f"{len(self.multipliers)} multipliers for {len(ins)} operands")
        shape = broadcast(*(operand(ins, i).type.shape for i in range(len(ins))))
        return [TensorType("uint8", shape, Quantization((self.scale,), (self.zero_point,)))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        total = np.int64(self.constant) + sum(
            given(ins, i).astype(np.int64) * m for i, m in enumerate(self.multipliers)
        )
        codes = np.clip(total >> self.shift, self.low, self.high).astype(np.uint8)
        return [np.asarray(codes)]


@dataclass(frozen=True)
class QMul(IntegerOp):
    """Product of two tensors of codes: ``clip(rint(float32((a-za)*(b-zb)) * multiplier) + zp)``."""

    a_zero_point: int = 0
    b_zero_point: int = 0
    multiplier: float = 1.0
    zero_point: int = 0
    low: int = 0
    high: int = 255
    scale: float = 1.0

    def infer(self, ins: Operands) -> list[TensorType]:
        shape = broadcast(operand(ins, 0).type.shape, operand(ins, 1).type.shape)
        return [TensorType("uint8", shape, Quantization((self.scale,), (self.zero_point,)))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a = given(ins).astype(np.int32) - self.a_zero_point
        b = given(ins, 1).astype(np.int32) - self.b_zero_point
        v = np.rint((a * b).astype(np.float32) * np.float32(self.multiplier)) + self.zero_point
        return [np.clip(v, self.low, self.high).astype(np.uint8)]


@dataclass(frozen=True)
class QTable(IntegerOp):
    """A unary function of 8-bit codes: ``table[q]``.  Operands: codes, table (256 entries)."""

    scale: float = 1.0
    zero_point: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        x, table = operand(ins, 0).type, operand(ins, 1).type
        if x.dtype != "uint8" or table.static != (256,):
            raise ValueError(f"a table of 256 entries for uint8 codes, not {table} for {x}")
        quant = Quantization((self.scale,), (self.zero_point,)) if table.dtype == "uint8" else None
        return [TensorType(table.dtype, x.shape, quant)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [given(ins, 1)[given(ins)]]


@dataclass(frozen=True)
class QAveragePool(IntegerOp):
    """Average of codes over a window, with change of scale, in fixed point.

    ``clip((sum(q) * multipliers[count] + constant) >> shift)`` in int64, where ``count`` is the
    number of elements under the window (``multipliers`` pairs counts with numbers; padding does not
    count) and ``sum(q)`` has the zero point subtracted count times.  Codes are uint8 or uint16 on
    either side (``dtype``: of the result).
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    multipliers: tuple[tuple[int, int], ...] = ()
    in_zero_point: int = 0
    constant: int = 0
    shift: int = 0
    low: int = 0
    high: int = 255
    scale: float = 1.0
    zero_point: int = 0
    ceil_mode: bool = False
    dtype: str = "uint8"

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        n = len(self.kernel)
        out = [
            window_output(
                _known(x.shape[i + 2]), k, s, (self.pads[i], self.pads[i + n]), 1, self.ceil_mode
            )
            for i, (k, s) in enumerate(zip(self.kernel, self.strides, strict=True))
        ]
        quant = Quantization((self.scale,), (self.zero_point,))
        return [TensorType(self.dtype, (*x.shape[:2], *out), quant)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins).astype(np.int64) - self.in_zero_point
        n, ones = len(self.kernel), (1,) * len(self.kernel)
        sizes = [
            window_output(x.shape[i + 2], k, s, (self.pads[i], self.pads[i + n]), 1, self.ceil_mode)
            for i, (k, s) in enumerate(zip(self.kernel, self.strides, strict=True))
        ]
        grow = [
            (self.pads[i], max(self.pads[i + n], (o - 1) * s + k - x.shape[i + 2] - self.pads[i]))
            for i, (o, k, s) in enumerate(zip(sizes, self.kernel, self.strides, strict=True))
        ]
        axes = tuple(range(2 + n, 2 + 2 * n))

        def total(a: Array) -> Array:
            padded = np.pad(a, ((0, 0), (0, 0), *grow))
            return np.asarray(patches(padded, self.kernel, self.strides, ones, sizes).sum(axes))

        counts = total(np.ones((1, 1, *x.shape[2:]), np.int64))
        scale = np.zeros_like(counts)
        for count, multiplier in self.multipliers:
            scale[counts == count] = multiplier
        q = (total(x) * scale + self.constant) >> self.shift
        return [np.clip(q, self.low, self.high).astype(self.dtype)]


@dataclass(frozen=True)
class QSoftmax(IntegerOp):
    """Softmax of codes, exact: two tables of ``exp``, integer sum, one float32 division.

    ``d = min(max(q) - q, 65535)``; ``e = (high[d >> 8] * low[d & 255]) >> 31`` in uint64, each
    table uint32[256] in units of ``2**-31``; result ``float32(e) / float32(sum(e))``.
    Operands: codes (uint8 or uint16), high, low.
    """

    axis: int = -1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        normal_axis(self.axis, x.rank)
        return [TensorType("float32", x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        q = given(ins).astype(np.int64)
        d = np.minimum(q.max(self.axis, keepdims=True) - q, 65535)
        high, low = given(ins, 1).astype(np.uint64), given(ins, 2).astype(np.uint64)
        e = (high[d >> 8] * low[d & 255]) >> np.uint64(31)
        total = e.sum(self.axis, keepdims=True)
        return [e.astype(np.float32) / total.astype(np.float32)]


@dataclass(frozen=True)
class QPad(IntegerOp):
    """Pad codes with their zero point, known only at run time: one per leading index.

    Operands: codes uint8 ``[N, ...]``, zero point uint8 ``[N, 1, ...]``.  ``pads`` as in ONNX
    (begins of all axes, then ends).
    """

    pads: tuple[int, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        n = x.rank
        shape = tuple(
            d
            if not (self.pads[i] or self.pads[i + n])
            else _known(d) + self.pads[i] + self.pads[i + n]
            for i, d in enumerate(x.shape)
        )
        return [x.with_shape(shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, zero = given(ins), given(ins, 1)
        n = x.ndim
        shape = [d + self.pads[i] + self.pads[i + n] for i, d in enumerate(x.shape)]
        out = np.broadcast_to(zero, shape).astype(x.dtype)
        out[tuple(slice(self.pads[i], self.pads[i] + d) for i, d in enumerate(x.shape))] = x
        return [out]


@dataclass(frozen=True)
class DequantizeAccumulator(IntegerOp):
    """Result of a layer whose input was quantized dynamically, in float32 (a float island).

    ``float32(acc - zp * wsum[c]) * (scale * wscale[c]) + bias[c]``, the last two a fused
    multiply-add.  Operands: acc int32, scale float32 and zero point uint8 (broadcastable), wsum
    int32[C], wscale float32[C], bias float32[C] or none.  ``axis`` is the channel axis of acc.
    """

    axis: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        acc = operand(ins, 0).type
        normal_axis(self.axis, acc.rank)
        return [TensorType("float32", acc.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        acc = given(ins)
        shape = [1] * acc.ndim
        shape[self.axis] = -1
        exact = acc - given(ins, 2).astype(np.int32) * given(ins, 3).reshape(shape)
        real, step = exact.astype(np.float32), given(ins, 1) * given(ins, 4).reshape(shape)
        bias = optional(ins, 5)
        if bias is None:
            return [real * step]
        return [fused_multiply_add(real, step, bias.reshape(shape))]


def _known(d: int | str) -> int:
    if not isinstance(d, int):
        raise ValueError(f"dimension {d!r} is not known")
    return d
