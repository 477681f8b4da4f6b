"""The ops ``Reduce*``: what is summed and what is done with the sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from . import functions as fn
from .layout import Strided
from .loops import Expr, Frame
from .pointwise import greatest, least
from .reduction import reduce


@dataclass(frozen=True)
class Sum:
    """``finish(total(term(x)), count)``."""

    term: Callable[[Expr], Expr] = lambda x: x
    finish: Callable[[Expr, int], Expr] = lambda total, count: total


@dataclass(frozen=True)
class Best:
    """A reduction by ``combine`` that starts at a bound of the element type."""

    combine: Callable[[Expr, Expr], Expr]
    start: Callable[[str], Expr]


_SUMS = {
    "ReduceSum": Sum(),
    "ReduceMean": Sum(finish=lambda t, n: t / tirx.const(n, t.ty.dtype)),
    "ReduceL1": Sum(tirx.abs),
    "ReduceL2": Sum(lambda x: x * x, lambda t, n: tirx.sqrt(t)),
    "ReduceSumSquare": Sum(lambda x: x * x),
    "ReduceLogSum": Sum(finish=lambda t, n: fn.libm("logf", t)),
}
_BEST = {
    "ReduceMax": Best(tirx.max, least),
    "ReduceMin": Best(tirx.min, greatest),
    "ReduceProd": Best(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype)),
}
NAMES = (*_SUMS, *_BEST)


def emit_reduce(op: Any, frame: Frame, ins: Sequence[Strided], outs: Sequence[Strided]) -> int:
    """Any ``Reduce*``."""
    x, out = ins[0], outs[0]
    axes = tuple(range(x.rank)) if op.axes is None else tuple(a % x.rank for a in op.axes)
    if (best := _BEST.get(op.name)) is not None:
        return reduce(frame, x, out, axes, best.start(x.dtype), best.combine, lambda t: t)
    kind, count = _SUMS[op.name], 1
    for a in axes:
        count *= x.shape[a]
    return reduce(
        frame, x, out, axes, tirx.const(0, x.dtype),
        lambda acc, v: acc + kind.term(v), lambda t: kind.finish(t, count), lambda a, b: a + b,
    )  # fmt: skip
