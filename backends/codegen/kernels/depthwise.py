"""uint8 x int8 depthwise convolution: rows are interleaved to quads of vertical taps.

Per column of the input four rows are loaded and two unpack stages turn them into vectors whose
32-bit lanes hold four vertical taps of one channel. One dot instruction per kernel column then
serves a lane; columns are carried from pixel to pixel. The saturating packs of the epilogue undo
the order of the unpacks. Remainders of 32 and 16 channels put several groups of rows side by side.
Without such dots the same lanes are widened to pairs of int16 for vpmaddwd.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload
from .depthwise_plan import DepthwiseKnobs, Kind, Taps, kinds_of, pack_quads
from .epilogue import Epilogue
from .finish import replace_by_table
from .isa import Expr, local, shuffle, splat, store
from .operands import Operands, Signature, build
from .requantize import Requantize

_UNROLLED_DOTS = 100
_NARROW = 4
_Constants = tuple[list[Expr], list[Expr]]
"""Bias and multiplier, four vectors each."""


@dataclass(frozen=True)
class Depthwise:
    """The template for vectors of ``lanes`` int32.

    ``isa``: the instructions for as many lanes.  ``dots``: they add four products of bytes, else
    only two of words.  ``shift``: what is taken off every code before, and is in the bias.
    """

    lanes: int
    isa: Callable[[int], Any]
    dots: bool = True
    shift: int = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: DepthwiseKnobs
    ) -> NDArray[np.generic]:
        """int8 [C, 1, h, w] weights as quads of taps (int8), or pairs (int16) without dots."""
        kinds = pack_quads(weights, workload, self.lanes)
        if self.dots:
            return np.concatenate([kind.ravel() for kind in kinds])
        pairs = [kind.reshape(*kind.shape[:-1], 2, 2).swapaxes(-2, -3) for kind in kinds]
        return np.concatenate([pair.astype(np.int16).ravel() for pair in pairs])

    def extent(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> int:
        """The number of iterations; neighbours may write equal values to a shared row."""
        return sum(kind.iterations for kind in kinds_of(workload, self.lanes))

    def knob_space(self, workload: ConvWorkload) -> list[DepthwiseKnobs]:
        """All unroll factors from one to eight."""
        return [DepthwiseKnobs(n) for n in range(1, min(8, workload.y.width) + 1)]

    def cost(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> float:
        """Estimated cycles: two pixels where they divide the row share the moves of columns.

        More gain little, what is left of a row costs, and many dots in one body spill.  Of vectors
        of 128 bits two pixels take fewer instructions in odd rows, too.
        """
        dots, pixels, width = 4 * Taps.of(workload).vectors, knobs.pixels, workload.y.width
        steps = sum(kind.count * kind.steps for kind in kinds_of(workload, self.lanes))
        spills = max(0, pixels * dots - _UNROLLED_DOTS) if pixels > 1 else 0
        alone = width % 2 if self.lanes == _NARROW else width * (width % 2)
        moved = 4.0 + 4.0 * alone / width if pixels == 2 else 8.0
        moved += 0.01 * pixels
        return steps * width * (dots / (2 if self.dots else 1) + 16 + moved + spills)

    def prim_func(self, workload: ConvWorkload, knobs: DepthwiseKnobs, name: str) -> Any:
        """The kernel ``name``.

        LLVM must take the pointers for aliases, or it hoists all weights and spills them.
        """
        assert isinstance(workload.epilogue, Epilogue)
        dtype = "int8" if self.dots else "int16"
        kinds = kinds_of(workload, self.lanes)
        taps = Taps.of(workload)
        size = sum(kind.count * kind.width for kind in kinds) * 4 * taps.vectors
        signature = Signature(
            workload.x, workload.y, workload.epilogue, workload.residual, size, dtype
        )

        def body(operands: Operands) -> None:
            _emit_kinds(self, workload, knobs, operands)

        return build(name, signature, body, noalias=False)


def _emit_kinds(
    template: Depthwise, workload: ConvWorkload, knobs: DepthwiseKnobs, operands: Operands
) -> None:
    """Emit the loop ``lo .. hi`` over the steps of all kinds of blocks, one after another."""
    kinds, taps = kinds_of(workload, template.lanes), Taps.of(workload)
    first, weights = 0, 0
    for kind in kinds:
        lo = tirx.max(operands.lo, tirx.const(first, "int32"))
        hi = tirx.min(operands.hi, tirx.const(first + kind.iterations, "int32"))
        with I.serial(I.bind(lo), I.bind(tirx.max(lo, hi))) as i:
            step = I.bind(tirx.truncdiv(i - first, kind.count) * kind.chunk)
            block = I.bind(tirx.truncmod(i - first, kind.count))
            emitter = _Block(template, workload, knobs, operands, kind, taps)
            emitter.emit(step, block, weights)
        first += kind.iterations
        weights += kind.count * kind.width * 4 * taps.vectors


@dataclass(frozen=True)
class _Place:
    """Element indices of the block's first row and channel, and where its weights start."""

    x: Expr
    y: Expr
    residual: Expr
    weights: Expr


@dataclass(frozen=True)
class _Block:
    """Emits one block of channels over the rows of one step."""

    template: Depthwise
    workload: ConvWorkload
    knobs: DepthwiseKnobs
    operands: Operands
    kind: Kind
    taps: Taps

    @property
    def _isa(self) -> Any:
        return self.template.isa(self.kind.width // 4)

    @property
    def _span(self) -> int:
        return (self.workload.kernel[1] - 1) * self.workload.dilations[1] + 1

    @property
    def _carried(self) -> list[int]:
        """Offsets of the columns which the next pixel needs again."""
        (_, right), (_, apart) = self.workload.strides, self.workload.dilations
        taps = range(0, self._span, apart)
        reused = range(max(0, self._span - right))
        return [column for column in reused if any((tap - column) % right == 0 for tap in taps)]

    def emit(self, first_step: Expr, block: Expr, weights: int) -> None:
        """Emit the steps of one iteration for the channels of ``block``."""
        kind = self.kind
        channel = I.bind(block * kind.channels + kind.first_channel)
        at = I.bind(block * (kind.width * 4 * self.taps.vectors) + weights)
        constants = self._channel_constants(channel)
        last = tirx.min(first_step + kind.chunk, tirx.const(kind.steps, "int32"))
        with I.serial(first_step, I.bind(last)) as step:
            self._rows(self._place(step, channel, at), constants)

    def _rows(self, place: _Place, constants: _Constants) -> None:
        """Emit all pixels of the rows of one step."""
        carried = self._carried
        carry = local(max(1, len(carried) * self._column_vectors), self._column_dtype)
        self._save(carry, [self._column(place, offset) for offset in carried])
        pixels, width = self.knobs.pixels, self.workload.y.width
        if width >= pixels:
            with I.serial(0, width // pixels) as i:
                self._pixels(place, constants, carry, I.bind(i * pixels), pixels)
        if width % pixels:
            first = tirx.const(width - width % pixels, "int32")
            self._pixels(place, constants, carry, first, width % pixels)

    def _place(self, step: Expr, channel: Expr, weights: Expr) -> _Place:
        workload, rows = self.workload, self.taps.rows * self.kind.fold
        row = step * rows
        if workload.y.height % rows:
            row = tirx.min(row, tirx.const(workload.y.height - rows, "int32"))
        row = I.bind(row)
        residual = None
        if workload.residual is not None:
            residual = I.bind(row * workload.residual.row_stride + channel)
        return _Place(
            x=I.bind(row * (workload.strides[0] * workload.x.row_stride) + channel),
            y=I.bind(row * workload.y.row_stride + channel),
            residual=residual,
            weights=weights,
        )

    def _channel_constants(self, channel: Expr) -> _Constants:
        """Bias and multiplier in the order of the lanes, four vectors each."""
        quads = [16 * i % self.kind.channels for i in range(self.kind.width // 16)]

        def vectors(buffer: Expr, dtype: str) -> list[Expr]:
            return [
                I.bind(
                    shuffle(
                        [buffer.vload([channel + quad + 4 * g], f"{dtype}x4") for quad in quads],
                        range(self._isa.lanes),
                    )
                )
                for g in range(4)
            ]

        operands = self.operands
        return vectors(operands.bias, "int32"), vectors(operands.multiplier, "float32")

    def _pixels(
        self,
        place: _Place,
        constants: _Constants,
        carry: Expr,
        first: Expr,
        count: int,
    ) -> None:
        """Emit ``count`` output pixels from column ``first`` on, for all rows of the step."""
        stride, apart = self.workload.strides[1], self.workload.dilations[1]
        columns = self._load(carry)
        for pixel in range(count):
            taps = [pixel * stride + tap for tap in range(0, self._span, apart)]
            for offset in taps:
                if offset not in columns:
                    columns[offset] = self._column(place, first * stride + offset)
            for row in range(self.taps.rows):
                acc = self._dots(place, constants[0], [columns[offset] for offset in taps], row)
                self._finish(place, acc, constants[1], row, first + pixel)
        self._save(carry, [columns[count * stride + offset] for offset in self._carried])

    # Columns: vectors of vertical taps.

    @property
    def _column_vectors(self) -> int:
        return self.taps.quads * (4 if self.template.dots else 8)

    @property
    def _column_dtype(self) -> str:
        width = self.kind.width
        return f"uint8x{width}" if self.template.dots else f"int16x{width // 2}"

    def _save(self, carry: Expr, columns: Sequence[Sequence[Expr]]) -> None:
        for i, vector in enumerate(vector for column in columns for vector in column):
            I.buffer_store(carry, vector, [i])

    def _load(self, carry: Expr) -> dict[int, list[Expr]]:
        size = self._column_vectors
        return {
            offset: [I.bind(carry[i * size + k]) for k in range(size)]
            for i, offset in enumerate(self._carried)
        }

    def _column(self, place: _Place, column: Expr) -> list[Expr]:
        """The vectors of all quads of taps of one input column."""
        rows = [I.bind(self._row(place, t, column)) for t in range(self.taps.needed)]
        rows += [rows[-1]] * (4 * self.taps.quads - len(rows))
        interleave = _quads if self.template.dots else _pairs
        quads = [rows[4 * q : 4 * q + 4] for q in range(self.taps.quads)]
        return [vector for quad in quads for vector in interleave(quad, self.kind.width)]

    def _row(self, place: _Place, tap: int, column: Expr) -> Expr:
        """One tap row of a column, the groups of rows side by side."""
        x, kind = self.workload.x, self.kind
        group = self.taps.rows * self.workload.strides[0]
        at = place.x + column * x.pixel_stride + tap * self.workload.dilations[0] * x.row_stride
        parts = [
            self.operands.x.vload([at + i * group * x.row_stride], f"uint8x{kind.channels}")
            for i in range(kind.fold)
        ]
        row = parts[0] if kind.fold == 1 else shuffle(parts, range(kind.width))
        shift = self.template.shift
        return row ^ splat(shift, "uint8", kind.width) if shift else row

    # Accumulation and epilogue.

    def _dots(
        self, place: _Place, bias: Sequence[Expr], columns: Sequence[Sequence[Expr]], row: int
    ) -> list[Expr]:
        """The four accumulators of one output pixel and row."""
        acc, width = list(bias), self.kind.width
        dot = self._dot_quad if self.template.dots else self._dot_pairs
        for quad in range(self.taps.quads):
            for tap, column in enumerate(columns):
                index = (row * self.taps.quads + quad) * self.taps.width + tap
                at = place.weights + index * 4 * width
                for g in range(4):
                    acc[g] = I.bind(dot(acc[g], column, 4 * quad + g, at, g))
        return acc

    def _dot_quad(self, acc: Expr, column: Sequence[Expr], index: int, at: Expr, g: int) -> Expr:
        width = self.kind.width
        weights = self.operands.weights.vload([at + g * width], f"int8x{width}")
        return self._isa.dot_bytes(acc, column[index], weights)

    def _dot_pairs(self, acc: Expr, column: Sequence[Expr], index: int, at: Expr, g: int) -> Expr:
        width = self.kind.width
        for pair in range(2):
            start = at + pair * 2 * width + g * (width // 2)
            weights = self.operands.weights.vload([start], f"int16x{width // 2}")
            acc = acc + self._isa.multiply_pairs(column[2 * index + pair], weights)
        return acc

    def _finish(
        self, place: _Place, acc: Sequence[Expr], scale: Sequence[Expr], row: int, column: Expr
    ) -> None:
        """Emit the epilogue of one pixel and row, for every group of rows."""
        epilogue = self.workload.epilogue
        assert isinstance(epilogue, Epilogue)
        requantize = Requantize(self._isa, epilogue)
        codes = self._residual_codes(place, row, column)
        lanes = zip(acc, scale, codes, strict=True)
        if epilogue.dtype != "uint8":
            values = [I.bind(requantize.wide(*lane)) for lane in lanes]
            result = shuffle(values, self._natural())
        else:
            result = requantize.pack([requantize.word(*lane) for lane in lanes])
            if epilogue.table and self._isa.looks_up:
                result = self._isa.look_up(self.operands.table, result)
        self._store(place, I.bind(result), row, column)

    def _natural(self) -> list[int]:
        """Where the four vectors have the channels in their natural order."""
        lanes, width = self._isa.lanes, self.kind.width
        return [(c % 16 // 4) * lanes + c // 16 * 4 + c % 4 for c in range(width)]

    def _store(self, place: _Place, result: Expr, row: int, column: Expr) -> None:
        y, kind, epilogue = self.workload.y, self.kind, self.workload.epilogue
        for i in range(kind.fold):
            at = place.y + column * y.pixel_stride + (i * self.taps.rows + row) * y.row_stride
            part = range(i * kind.channels, (i + 1) * kind.channels)
            value = result if kind.fold == 1 else shuffle([result], part)
            store(self.operands.y, value, at, kind.channels)
            if isinstance(epilogue, Epilogue) and epilogue.table and not self._isa.looks_up:
                replace_by_table(self.operands, I.bind(at), kind.channels)

    def _residual_codes(self, place: _Place, row: int, column: Expr) -> list[Expr]:
        """The residual's codes as int32 in the order of the lanes."""
        view, kind = self.workload.residual, self.kind
        if view is None:
            return [None] * 4
        parts = []
        for i in range(kind.fold):
            offset = (i * self.taps.rows + row) * view.row_stride
            at = place.residual + column * view.pixel_stride + offset
            parts.append(self.operands.residual.vload([at], f"uint8x{kind.channels}"))
        codes = I.bind(shuffle(parts, range(kind.width)))
        quads = range(kind.width // 16)
        return [
            tirx.Cast(
                f"int32x{self._isa.lanes}",
                shuffle([codes], [16 * q + 4 * g + e for q in quads for e in range(4)]),
            )
            for g in range(4)
        ]


def _unpack(low: Expr, high: Expr, elements: int, lane: int, upper: bool) -> Expr:
    """Interleave the lower or upper halves of the 128-bit lanes (of ``lane`` elements)."""
    start = lane // 2 if upper else 0
    firsts = [q * lane + start + i for q in range(elements // lane) for i in range(lane // 2)]
    return shuffle([low, high], [i for first in firsts for i in (first, elements + first)])


def _quads(rows: Sequence[Expr], width: int) -> list[Expr]:
    """Four vectors whose 32-bit lanes hold the four rows of a channel."""
    halves = []
    for upper in (False, True):
        pairs = [_unpack(rows[k], rows[k + 1], width, 16, upper) for k in (0, 2)]
        words = [I.bind(tirx.reinterpret(f"uint16x{width // 2}", pair)) for pair in pairs]
        halves.append(words)
    return [
        I.bind(
            tirx.reinterpret(f"uint8x{width}", _unpack(words[0], words[1], width // 2, 8, upper))
        )
        for words in halves
        for upper in (False, True)
    ]


def _pairs(rows: Sequence[Expr], width: int) -> list[Expr]:
    """Eight vectors of int16 pairs: for each of four vectors rows (0, 1), then rows (2, 3)."""
    zero = tirx.Broadcast(tirx.IntImm("uint8", 0), width)
    vectors = []
    for half in (False, True):
        pairs = [I.bind(_unpack(rows[k], rows[k + 1], width, 16, half)) for k in (0, 2)]
        for upper in (False, True):
            for pair in pairs:
                wide = _unpack(pair, zero, width, 16, upper)
                vectors.append(I.bind(tirx.reinterpret(f"int16x{width // 2}", wide)))
    return vectors
