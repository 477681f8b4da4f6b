"""Pixels of three bytes, as images are that a network is given: sixteen are stored at once.

Left to itself LLVM stores such bytes one by one on x86 (ARM has an instruction that stores them).
Here the three of a pixel are joined in a number of 32 bits, and a shuffle drops each fourth byte.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .loops import Expr, Frame, Nest, index_of, local

_CHANNELS = 3
_LANES = 16


def are_pixels(loops: Nest, frame: Frame) -> bool:
    """Whether a nest makes such pixels, from operands in which neighbours lie side by side."""
    *read, made = loops.strides
    dense = loops.shape[-1] == _CHANNELS and made[-2:] == (_CHANNELS, 1)
    small = frame.outs[0].dtype in ("uint8", "int8") and not frame.fine
    return small and dense and all(strides[-2] in (0, 1) for strides in read)


def emit_pixels(frame: Frame, loops: Nest, value: Callable[[list[Expr]], Expr]) -> int:
    """Emit the loops; ``value``: an element of the result from the indices of the operands."""
    *outer, width, _ = loops.shape
    with ExitStack() as stack:
        point = [stack.enter_context(I.serial(frame.lo, frame.hi))] if outer else []
        point += [stack.enter_context(I.serial(0, size)) for size in outer[1:]]
        first, end = (_i32(0), _i32(width)) if outer else (frame.lo, frame.hi)
        whole = tirx.truncdiv(end - first, _LANES)
        with I.serial(0, whole) as i:
            _sixteen(frame, loops, [*point, first + i * _LANES], value)
        rest = first + whole * _LANES
        with I.serial(0, end - rest) as i:
            for channel in range(_CHANNELS):
                *at, to = _indices(loops, [*point, rest + i, _i32(channel)])
                frame.store(value(at), to)
    return loops.shape[0]


def _sixteen(
    frame: Frame, loops: Nest, point: Sequence[Expr], value: Callable[[list[Expr]], Expr]
) -> None:
    """The pixels from ``point`` on."""
    joined = local(_LANES, "int32")
    with I.vectorized(0, _LANES) as lane:
        total: Expr = _i32(0)
        for channel in range(_CHANNELS):
            *at, _ = _indices(loops, [*point[:-1], point[-1] + lane, _i32(channel)])
            byte = tirx.Cast("int32", tirx.Cast("uint8", value(at)))
            total = tirx.bitwise_or(total, tirx.shift_left(byte, _i32(8 * channel)))
        I.buffer_store(joined, total, [lane])
    out, to = frame.outs[0], _indices(loops, [*point, _i32(0)])[-1]
    numbers = tirx.BufferLoad(joined, [_next(_i32(0), _LANES)])
    dense = [_i32(4 * pixel + channel) for pixel in range(_LANES) for channel in range(_CHANNELS)]
    codes = tirx.Shuffle([tirx.reinterpret(f"{out.dtype}x{4 * _LANES}", numbers)], dense)
    I.buffer_store(out, codes, [_next(to, len(dense))])


def _indices(loops: Nest, variables: Sequence[Expr]) -> list[Expr]:
    return [index_of(variables, strides) for strides in loops.strides]


def _next(first: Expr, count: int) -> Expr:
    return tirx.Ramp(first, _i32(1), count)


def _i32(value: int) -> Expr:
    return tirx.const(value, "int32")
