"""Products of matrices that are both computed at run time: attention, and whatever has no template.

A block of accumulators along the columns where those are contiguous, else dot products in parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir.ops import integer
from .layout import Strided
from .loops import Expr, Frame, index_of, local, unravel
from .pointwise import f32, i32, requantized
from .reduction import BLOCK, fold

Finish = Callable[[Expr, Expr, list[Expr]], Expr]
"""From accumulator, column and coordinates of the result to its element."""


@dataclass(frozen=True)
class Product:
    """Operands with full leading axes, the accumulator's type and how codes are widened."""

    a: Strided
    b: Strided
    out: Strided
    dtype: str
    a_zero: int = 0
    b_zero: int = 0

    def term(self, left: Expr, right: Expr) -> Expr:
        """One product of the sum."""
        a, b = tirx.Cast(self.dtype, left), tirx.Cast(self.dtype, right)
        if self.a_zero:
            a = a - i32(self.a_zero)
        if self.b_zero:
            b = b - i32(self.b_zero)
        return a * b


def emit_product(frame: Frame, p: Product, finish: Finish) -> int:
    """Emit the loops over rows (and blocks of columns); the extent."""
    columns, depth = p.out.shape[-1], p.a.shape[-1]
    lead = p.out.shape[:-1]
    block = 1 if frame.fine else min(BLOCK, columns)
    blocks = -(-columns // block)
    count = 1
    for d in lead:
        count *= d
    with I.serial(frame.lo, frame.hi) as step:
        *at, part = unravel(step, (*lead, blocks))
        first = I.bind(tirx.min(part * block, columns - block)) if blocks > 1 else i32(0)
        a0 = I.bind(index_of(at, p.a.strides[:-1]))
        b0 = I.bind(index_of(at[:-1], p.b.strides[:-2]) + first * p.b.strides[-1])
        y0 = I.bind(index_of(at, p.out.strides[:-1]) + first * p.out.strides[-1])
        if p.b.strides[-1] == 1 or depth == 1:
            _beside(frame, p, (a0, b0, y0), block, first, at, finish)
        else:
            _dots(frame, p, (a0, b0, y0), block, first, at, finish)
    return count * blocks


def _beside(
    frame: Frame, p: Product, base: tuple[Expr, Expr, Expr], block: int, first: Expr,
    at: list[Expr], finish: Finish,
) -> None:  # fmt: skip
    a0, b0, y0 = base
    acc = local(block, p.dtype)
    with I.serial(0, block) as c:
        I.buffer_store(acc, tirx.const(0, p.dtype), [c])
    with I.serial(0, p.a.shape[-1]) as k:
        left = I.bind(frame.load(0, a0 + k * p.a.strides[-1]))
        with I.serial(0, block) as c:
            right = frame.load(1, b0 + k * p.b.strides[-2] + c * p.b.strides[-1])
            I.buffer_store(acc, acc[c] + p.term(left, right), [c])
    with I.serial(0, block) as c:
        frame.store(finish(acc[c], first + c, [*at, first + c]), y0 + c * p.out.strides[-1])


def _dots(
    frame: Frame, p: Product, base: tuple[Expr, Expr, Expr], block: int, first: Expr,
    at: list[Expr], finish: Finish,
) -> None:  # fmt: skip
    a0, b0, y0 = base
    with I.serial(0, block) as c:
        right = I.bind(b0 + c * p.b.strides[-1])
        total = fold(
            [p.a.shape[-1]], [1], tirx.const(0, p.dtype), lambda x, y: x + y,
            lambda acc, k: acc + p.term(
                frame.load(0, a0 + k * p.a.strides[-1]),
                frame.load(1, right + k * p.b.strides[-2]),
            ),
        )  # fmt: skip
        frame.store(finish(total, first + c, [*at, first + c]), y0 + c * p.out.strides[-1])


def emit_qmatmul(
    op: integer.QMatMul, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """``QMatMul``; operands a, b, bias, multiplier, residual?, table?, all present."""
    out = outs[0]
    p = Product(
        full(ins[0], out), full(ins[1], out), out, "int32", op.a_zero_point, op.b_zero_point
    )
    return emit_product(frame, p, finish_of(op, frame, ins, out))


def finish_of(op: integer.QMatMul, frame: Frame, ins: Sequence[Strided], out: Strided) -> Finish:
    """The epilogue of ``QMatMul``."""
    e = op.epilogue

    def finish(acc: Expr, column: Expr, at: list[Expr]) -> Expr:
        acc = acc + frame.load(2, column * ins[2].broadcast((out.shape[-1],)).strides[0])
        if e.dtype == "int32":
            return acc
        factor = frame.load(3, column * ins[3].broadcast((out.shape[-1],)).strides[0])
        v = tirx.Cast("float32", acc) * factor
        if e.dtype == "float32":
            return v
        code = _code(frame, e, v, ins, out, at)
        return frame.load(len(ins) - 1, tirx.Cast("int32", code)) if e.table else code

    return finish


def _code(
    frame: Frame, e: integer.Epilogue, v: Expr, ins: Sequence[Strided], out: Strided, at: list[Expr]
) -> Expr:
    r = e.residual
    if r is None:
        return requantized(v, e.zero_point, e.low, e.high, e.dtype)
    other = frame.load(4, index_of(at, ins[4].broadcast(out.shape).strides))
    total = tirx.Cast("int32", tirx.nearbyint(v)) + tirx.Cast("int32", other) * i32(r.multiplier)
    total = tirx.shift_right(total + i32(r.constant), i32(r.shift))
    return tirx.Cast(e.dtype, tirx.min(tirx.max(total, i32(e.low)), i32(e.high)))


def emit_matmul(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Float ``MatMul`` of operands of rank two or more."""
    out = outs[0]
    p = Product(full(ins[0], out), full(ins[1], out), out, "float32")
    return emit_product(frame, p, lambda acc, column, at: acc)


def emit_gemm(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Float ``Gemm``."""
    out = outs[0]
    a = ins[0].transposed((1, 0)) if op.trans_a else ins[0]
    b = ins[1].transposed((1, 0)) if op.trans_b else ins[1]

    def finish(acc: Expr, column: Expr, at: list[Expr]) -> Expr:
        value = acc * f32(op.alpha) if op.alpha != 1 else acc
        if len(ins) > 2:
            c = frame.load(2, index_of(at, ins[2].broadcast(out.shape).strides))
            value = value + (c * f32(op.beta) if op.beta != 1 else c)
        return value

    return emit_product(frame, Product(a, full(b, out), out, "float32"), finish)


def full(x: Strided, out: Strided) -> Strided:
    """An operand of a product with the leading axes of the result."""
    return x.broadcast((*out.shape[:-2], *x.shape[-2:]))
