"""Attention to what is kept: the products and what lies between them as one op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..types import Array, Shape, TensorType
from .base import Op, Operands, given, operand, optional
from .elementwise import Where
from .nn import MatMul
from .norm import Softmax
from .quantize import Quantize

T = TypeVar("T")

_PRODUCT = MatMul()
EXTRAS = 8
"""The index of the first operand of the steps."""


@dataclass(frozen=True)
class CachedAttention(Op):
    """``product(codes(softmax(steps(scores(q, k)))), v)`` over all ``capacity`` columns.

    Operands: q ``[..., rows, size]``, k ``[..., size, capacity]``, v ``[..., capacity, width]``,
    position int64 ``[rows]``, bias? and multiplier? of ``scores``, the same of ``product``, and of
    every step the operands beside the one that runs through (the first; the second of ``Where``).
    ``scores`` and ``product`` are ``MatMul`` or ``QMatMul``; without ``codes`` reals are weighed.
    Heads (the third axis from the end) of k and v each serve ``group`` heads of q.
    Whoever makes this op has shown that what lies beyond a row's position weighs exactly zero: code
    need not look at it.
    """

    scores: Op = _PRODUCT
    steps: tuple[Op, ...] = ()
    codes: Quantize | None = None
    product: Op = _PRODUCT
    group: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        from ..graph import Value

        rows, k, v = (operand(ins, i).type for i in (3, 1, 2))
        if operand(ins, 0).type.shape[-2:-1] != rows.shape or k.shape[-1] != v.shape[-2]:
            raise ValueError(f"{rows} positions do not fit {operand(ins, 0).type}, {k} and {v}")
        k, v = (t if self.group == 1 else t.with_shape(self._wide(t.shape)) for t in (k, v))
        x = Value("x", self.scores.infer([ins[0], Value("k", k), *ins[4:6]])[0])
        at = EXTRAS
        for step in self.steps:
            count = extra_operands(step)
            x = Value("x", step.infer(_around(step, x, ins[at : at + count]))[0])
            at += count
        if self.codes is not None:
            x = Value("x", self.codes.infer([x])[0])
        return self.product.infer([x, Value("v", v), *ins[6:8]])

    def _wide(self, shape: Shape) -> Shape:
        """The shape of k or v with a head for every head of q."""
        heads = shape[-3]
        if not isinstance(heads, int):
            raise ValueError(f"the number of heads {heads!r} is not known")
        return (*shape[:-3], heads * self.group, *shape[-2:])

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        k, v = given(ins, 1), given(ins, 2)
        if self.group > 1:
            k, v = (np.repeat(a, self.group, -3) for a in (k, v))
        (x,) = self.scores.eval([given(ins, 0), k, *ins[4:6]])
        at = EXTRAS
        for step in self.steps:
            count = extra_operands(step)
            (x,) = step.eval(_around(step, x, ins[at : at + count]))
            at += count
        (x,) = Softmax(-1).eval([x])
        if self.codes is not None:
            (x,) = self.codes.eval([x])
        return self.product.eval([x, v, optional(ins, 6), optional(ins, 7)])


def extra_operands(step: Op) -> int:
    """How many operands a step has beside the one that runs through."""
    return 2 if isinstance(step, Where) else 1


def _around(step: Op, x: T, others: Sequence[T | None]) -> list[T | None]:
    """All operands of a step."""
    return [others[0], x, others[1]] if isinstance(step, Where) else [x, *others]
