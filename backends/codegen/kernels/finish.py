"""The epilogue of accumulators which hold adjacent channels: compute, pack and store."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .epilogue import Epilogue, FloatEpilogue
from .isa import Expr, Isa, shuffle, splat, store
from .operands import Operands
from .requantize import Requantize


@dataclass(frozen=True)
class Strip:
    """Accumulator vectors of adjacent channels of one pixel.

    ``channel``: the first output channel; ``y``, ``residual``: its element index there.
    """

    vectors: tuple[Expr, ...]
    channel: Expr
    y: Expr
    residual: Expr


@dataclass(frozen=True)
class _Item:
    """The vector at ``position`` of a strip."""

    strip: Strip
    position: int


def finish(
    strips: Sequence[Strip], isa: Isa, epilogue: Epilogue | FloatEpilogue, operands: Operands
) -> None:
    """Emit the epilogue of all strips and the stores of the results."""
    items = [_Item(s, i) for s in strips for i in range(len(s.vectors))]
    if isinstance(epilogue, FloatEpilogue):
        for item in items:
            _store_float(item, isa, epilogue, operands)
        return
    requantize = Requantize(isa, epilogue)
    if epilogue.dtype != "uint8":
        for item in items:
            value = requantize.wide(*_inputs(item, isa, operands))
            store(operands.y, value, item.strip.y + item.position * isa.lanes, isa.lanes)
        return
    for start in range(0, len(items), 4):
        _store_bytes(items[start : start + 4], requantize, operands)


def replace_by_table(operands: Operands, index: Expr, count: int) -> None:
    """Emit a scalar loop which replaces stored codes by the entries of the table."""
    with I.serial(0, count) as i:
        code = tirx.Cast("int32", operands.y[index + i])
        I.buffer_store(operands.y, operands.table[code], [index + i])


def _inputs(item: _Item, isa: Isa, operands: Operands) -> tuple[Expr, Expr, Expr]:
    """The accumulator, its scale and the codes of the residual."""
    lanes, offset, strip = isa.lanes, item.position * isa.lanes, item.strip
    scale = code = None
    if operands.multiplier is not None:
        scale = operands.multiplier.vload([strip.channel + offset], f"float32x{lanes}")
    if operands.residual is not None:
        codes = operands.residual.vload([strip.residual + offset], f"uint8x{lanes}")
        code = tirx.Cast(f"int32x{lanes}", codes)
    return strip.vectors[item.position], scale, code


def _store_float(item: _Item, isa: Isa, epilogue: FloatEpilogue, operands: Operands) -> None:
    value, lanes = item.strip.vectors[item.position], isa.lanes
    if epilogue.low > -math.inf:
        value = tirx.max(value, splat(epilogue.low, "float32", lanes))
    if epilogue.high < math.inf:
        value = tirx.min(value, splat(epilogue.high, "float32", lanes))
    store(operands.y, value, item.strip.y + item.position * lanes, lanes)


def _store_bytes(items: Sequence[_Item], requantize: Requantize, operands: Operands) -> None:
    """Pack up to four vectors to bytes and store them, runs of one strip in one piece."""
    isa, table = requantize.isa, requantize.epilogue.table
    words = [requantize.word(*_inputs(item, isa, operands)) for item in items]
    words = {1: words * 4, 2: words * 2, 3: [*words, words[-1]], 4: words}[len(words)]
    codes = requantize.pack(words)
    if table and isa.looks_up:
        codes = I.bind(isa.look_up(operands.table, codes))
    for first, count in _runs(items):
        lanes, item = count * isa.lanes, items[first]
        index = I.bind(item.strip.y + item.position * isa.lanes)
        store(operands.y, shuffle([codes], _natural(isa, first, count)), index, lanes)
        if table and not isa.looks_up:
            replace_by_table(operands, index, lanes)


def _natural(isa: Isa, first: int, count: int) -> list[int]:
    """Where ``Requantize.pack`` has put the lanes of the vectors from ``first`` on."""
    return [
        16 * quad + 4 * vector + i
        for vector in range(first, first + count)
        for quad in range(isa.lanes // 4)
        for i in range(4)
    ]


def _runs(items: Sequence[_Item]) -> Iterator[tuple[int, int]]:
    """(first, count) of the maximal runs of items which belong to the same strip."""
    first = 0
    for i in range(1, len(items) + 1):
        if i == len(items) or items[i].strip is not items[first].strip:
            yield first, i - first
            first = i
