"""Loop nests over strided operands.

The axes are ordered by the strides of the result, and neighbours that are contiguous in every
operand are merged, so that LLVM sees few loops with long contiguous inner ones and vectorizes them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as I

from .layout import Strided
from .program import Emitted

Expr = Any
"""A TIR expression; tvm's own classes carry no useful static types."""

UNROLL = 4
"""Innermost loops up to this many iterations are unrolled, so that the next one vectorizes."""


@dataclass(frozen=True)
class Frame:
    """The parameters of a generic kernel: operand and result buffers and the range of work.

    ``fine``: an iteration is one element (or a row, on which a team of threads works).
    """

    ins: tuple[Expr, ...]
    outs: tuple[Expr, ...]
    lo: Expr
    hi: Expr
    fine: bool = False

    def load(self, operand: int, index: Expr) -> Expr:
        """Element ``index`` of an operand's buffer."""
        return self.ins[operand][index]

    def store(self, value: Expr, index: Expr, result: int = 0) -> None:
        """Emit the store of an element of a result."""
        buffer = self.outs[result]
        if str(value.ty.dtype if hasattr(value, "ty") else value.dtype) != buffer.dtype:
            value = tirx.Cast(buffer.dtype, value)
        I.buffer_store(buffer, value, [index])


@dataclass(frozen=True)
class Nest:
    """Merged axes: sizes, and per operand the stride of each; the last operand is the result."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def build(
    name: str,
    ins: Sequence[Strided | None],
    outs: Sequence[Strided],
    body: Callable[[Frame], int],
    fine: bool = False,
) -> Emitted:
    """The kernel ``name``; ``body`` emits its statements and returns the extent of lo..hi."""
    with IRBuilder() as builder, I.prim_func(s_tir=True):
        I.func_name(name)
        I.func_attr({"global_symbol": name, "tirx.noalias": True})
        given = tuple(_array(f"x{i}", x) for i, x in enumerate(ins) if x is not None)
        made = tuple(_array(f"y{i}", y) for i, y in enumerate(outs))
        lo, hi = (I.arg(n, tirx.Var(n, "int32")) for n in ("lo", "hi"))
        extent = body(Frame(given, made, lo, hi, fine))
    return Emitted(builder.get(), extent)


def _array(name: str, view: Strided) -> Expr:
    return I.arg(name, I.buffer((view.span,), view.dtype))


def merge(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> Nest:
    """Order the axes by the last operand's strides and merge what is contiguous everywhere."""
    axes = [i for i, d in enumerate(shape) if d != 1]
    axes.sort(key=lambda i: (-strides[-1][i], i))
    sizes: list[int] = []
    steps: list[list[int]] = []
    for axis in axes:
        size, step = shape[axis], [s[axis] for s in strides]
        if sizes and all(a == b * size for a, b in zip(steps[-1], step, strict=True)):
            sizes[-1] *= size
            steps[-1] = step
        else:
            sizes.append(size)
            steps.append(step)
    if not sizes:
        sizes, steps = [1], [[0] * len(strides)]
    return Nest(tuple(sizes), tuple(zip(*steps, strict=True)))


@contextmanager
def nest(loops: Nest, frame: Frame) -> Iterator[tuple[list[Expr], int]]:
    """Emit the loops; yields the index of each operand, and the extent of the outermost loop."""
    with ExitStack() as stack:
        variables = [stack.enter_context(I.serial(frame.lo, frame.hi))]
        if frame.fine:
            variables = unravel(variables[0], loops.shape)
        for i, size in enumerate(loops.shape[len(variables) :], len(variables)):
            innermost = i == len(loops.shape) - 1
            loop = I.unroll(0, size) if innermost and size <= UNROLL else I.serial(0, size)
            variables.append(stack.enter_context(loop))
        indices = [index_of(variables, strides) for strides in loops.strides]
        yield indices, prod(loops.shape) if frame.fine else loops.shape[0]


@contextmanager
def grid(shape: Sequence[int]) -> Iterator[list[Expr]]:
    """Emit one serial loop per axis (none for unit axes); yields their variables."""
    with ExitStack() as stack:
        yield [
            tirx.const(0, "int32") if d == 1 else stack.enter_context(I.serial(0, d)) for d in shape
        ]


def index_of(variables: Sequence[Expr], strides: Sequence[int]) -> Expr:
    """The linear index of a point."""
    total: Expr = tirx.const(0, "int32")
    for variable, stride in zip(variables, strides, strict=True):
        if stride:
            total = total + variable * stride
    return total


def unravel(index: Expr, shape: Sequence[int]) -> list[Expr]:
    """The coordinates of a linear row-major ``index``."""
    out: list[Expr] = []
    for i in range(len(shape) - 1, 0, -1):
        out.append(tirx.truncmod(index, shape[i]) if shape[i] != 1 else tirx.const(0, "int32"))
        index = tirx.truncdiv(index, shape[i]) if shape[i] != 1 else index
    return [index, *reversed(out)]


def local(size: int, dtype: str) -> Expr:
    """Emit a stack array."""
    buffer = I.alloc_buffer((size,), dtype, scope="local")
    return getattr(buffer, "buffer", buffer)
