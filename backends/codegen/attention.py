"""Attention of single rows to what is kept, up to the row's position.

A row's scores lie in a stack array; the products go through 16 columns (or all of a head's numbers)
side by side.  Sums have the order of the kernels for whole sequences, in which what is left out
here adds zeros: the result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir import ops
from ...ir.ops.attention import EXTRAS, CachedAttention, extra_operands
from . import functions as fn
from .float_pointwise import BINARY, zero_of
from .layout import Strided, round_up
from .loops import Expr, Frame, index_of, local, unravel
from .pointwise import f32, i32, requantized

LANES = 16
"""As many columns as a sum has parts in ``reduction.fold``."""


def emit_attention(
    op: CachedAttention, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]
) -> int:
    """An iteration is a row; operands as the op has them, all present."""
    row = _Row(op, frame, ins, outs[0])
    shape = outs[0].shape[:-1]
    with I.serial(frame.lo, frame.hi) as step:
        row.at = [I.bind(i) for i in unravel(step, shape)]
        row.head = row.at[:-1]
        if op.group > 1:
            row.head = [*row.at[:-2], I.bind(tirx.truncdiv(row.at[-2], i32(op.group)))]
        row.run()
    return int(np.prod(shape))


class _Row:
    """Emits the phases of one row."""

    def __init__(
        self, op: CachedAttention, frame: Frame, ins: Sequence[Strided], out: Strided
    ) -> None:
        self.op, self.frame, self.out = op, frame, out
        lead = out.shape[:-2]
        self.q = ins[0].broadcast((*lead, *ins[0].shape[-2:]))
        shared = (*lead[:-1], lead[-1] // op.group) if op.group > 1 else lead
        self.k, self.v = (x.broadcast((*shared, *x.shape[-2:])) for x in ins[1:3])
        self.position, self.ins = ins[3], ins
        self.capacity, self.width = self.k.shape[-1], out.shape[-1]
        self.coded = isinstance(op.product, ops.QMatMul)
        self.scores = local(round_up(self.capacity, LANES), "float32")
        self.sums = local(LANES, "int32" if isinstance(op.scores, ops.QMatMul) else "float32")
        self.parts = local(LANES, "float32")
        self.result = local(self.width, "int32" if self.coded else "float32")
        self.at: list[Expr] = []
        self.head: list[Expr] = []

    def run(self) -> None:
        """Scores, softmax, weighted sum."""
        found = self.frame.load(3, self.at[-1] * self.position.strides[0])
        limit = tirx.min(tirx.max(tirx.Cast("int32", found) + 1, i32(1)), i32(self.capacity))
        limit = I.bind(limit)
        blocks = I.bind(tirx.truncdiv(limit + i32(LANES - 1), i32(LANES)))
        self._score(blocks)
        self._softmax(blocks)
        self._weigh(limit)

    def _score(self, blocks: Expr) -> None:
        with I.serial(0, LANES) as c:
            I.buffer_store(self.parts, tirx.min_value("float32"), [c])
        whole = self.capacity // LANES
        with I.serial(0, tirx.min(blocks, i32(whole))) as j:
            self._block(j * LANES, LANES)
        if self.capacity % LANES:
            with I.If(blocks > whole), I.Then():
                self._block(i32(whole * LANES), self.capacity % LANES)
                with I.serial(self.capacity, round_up(self.capacity, LANES)) as c:
                    I.buffer_store(self.scores, tirx.min_value("float32"), [c])
        with I.serial(1, LANES) as c:
            I.buffer_store(self.parts, tirx.max(self.parts[0], self.parts[c]), [0])

    def _block(self, first: Expr, count: int) -> None:
        """The scores of ``count`` columns, and the greatest so far of each lane."""
        frame, q, k, sums = self.frame, self.q, self.k, self.sums
        dtype, a, b = self._zeros(self.op.scores)
        with I.serial(0, count) as c:
            I.buffer_store(sums, tirx.const(0, dtype), [c])
        left0 = I.bind(index_of(self.at, q.strides[:-1]))
        right0 = I.bind(index_of(self.head, k.strides[:-2]) + first * k.strides[-1])
        with I.serial(0, q.shape[-1]) as d:
            left = I.bind(tirx.Cast(dtype, frame.load(0, left0 + d * q.strides[-1])) - a)
            with I.serial(0, count) as c:
                right = frame.load(1, right0 + d * k.strides[-2] + c * k.strides[-1])
                term = left * (tirx.Cast(dtype, right) - b)
                I.buffer_store(sums, sums[c] + term, [c])
        with I.serial(0, count) as c:
            value = self._stepped(self._real(sums[c]), first + c)
            I.buffer_store(self.scores, value, [first + c])
            I.buffer_store(self.parts, tirx.max(self.parts[c], self.scores[first + c]), [c])

    def _zeros(self, op: Any) -> tuple[str, Expr, Expr]:
        """The accumulators' type and the zero points of a product's operands."""
        if isinstance(op, ops.QMatMul):
            return "int32", i32(op.a_zero_point), i32(op.b_zero_point)
        return "float32", f32(0), f32(0)

    def _real(self, total: Expr) -> Expr:
        if not isinstance(self.op.scores, ops.QMatMul):
            return total
        return tirx.Cast("float32", total + self.frame.load(4, i32(0))) * self.frame.load(5, i32(0))

    def _stepped(self, value: Expr, column: Expr) -> Expr:
        """What the steps between product and softmax make of a score."""
        index, full = EXTRAS, (*self.out.shape[:-1], self.capacity)
        for step in self.op.steps:
            others = []
            for i in range(index, index + extra_operands(step)):
                strides = self.ins[i].broadcast(full).strides
                others.append(self.frame.load(i, index_of([*self.at, column], strides)))
            index += len(others)
            if isinstance(step, ops.Where):
                value = tirx.Select(tirx.Not(others[0].equal(zero_of(others[0]))), value, others[1])
            else:
                value = BINARY[step.name](step, value, others[0])
        return value

    def _softmax(self, blocks: Expr) -> None:
        scores, parts = self.scores, self.parts
        top = I.bind(parts[0])
        with I.serial(0, LANES) as c:
            I.buffer_store(parts, f32(0), [c])
        with I.serial(0, blocks) as j, I.serial(0, LANES) as c:
            I.buffer_store(scores, fn.exp(scores[j * LANES + c] - top), [j * LANES + c])
            I.buffer_store(parts, parts[c] + scores[j * LANES + c], [c])
        with I.serial(1, LANES) as c:
            I.buffer_store(parts, parts[0] + parts[c], [0])
        total = I.bind(parts[0])
        with I.serial(0, blocks) as j, I.serial(0, LANES) as c:
            weight = scores[j * LANES + c] / total
            if self.op.codes is not None:
                weight = self._code(weight)
            I.buffer_store(scores, weight, [j * LANES + c])

    def _code(self, weight: Expr) -> Expr:
        """The code of a weight without its zero point, which a float holds exactly."""
        codes = self.op.codes
        assert codes is not None
        low, high = codes.bounds
        scale = f32(float(np.float32(codes.scale[0])))
        code = requantized(weight / scale, codes.zero_point[0], low, high, codes.dtype)
        _, zero, _ = self._zeros(self.op.product)
        return tirx.Cast("float32", tirx.Cast("int32", code) - zero)

    def _weigh(self, limit: Expr) -> None:
        frame, v, result = self.frame, self.v, self.result
        dtype, _, zero = self._zeros(self.op.product)
        with I.serial(0, self.width) as c:
            I.buffer_store(result, tirx.const(0, dtype), [c])
        first = I.bind(index_of(self.head, v.strides[:-2]))
        with I.serial(0, limit) as j:
            weight = I.bind(tirx.Cast(dtype, self.scores[j]))
            with I.serial(0, self.width) as c:
                value = frame.load(2, first + j * v.strides[-2] + c * v.strides[-1])
                term = weight * (tirx.Cast(dtype, value) - zero)
                I.buffer_store(result, result[c] + term, [c])
        there = I.bind(index_of(self.at, self.out.strides[:-1]))
        with I.serial(0, self.width) as c:
            frame.store(self._finished(result[c], c), there + c * self.out.strides[-1])

    def _finished(self, total: Expr, column: Expr) -> Expr:
        """The result of the second product."""
        op: Any = self.op.product
        if not self.coded:
            return total
        bias, factor = (x.broadcast((self.width,)).strides[0] for x in self.ins[6:8])
        total = total + self.frame.load(6, column * bias)
        real = tirx.Cast("float32", total) * self.frame.load(7, column * factor)
        e = op.epilogue
        if e.dtype == "float32":
            return real
        return requantized(real, e.zero_point, e.low, e.high, e.dtype)
