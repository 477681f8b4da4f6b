"""A product of two matrices of codes on tensor cores: mma.m16n8k32, without a copy of either.

A lane holds eight adjacent terms of its rows of ``a`` and columns of ``b``, as in the template for
convolutions.  Where columns of ``b`` are contiguous, a lane reads four of them at once and
transposes; they belong to four fragments, so that a lane has eight adjacent columns of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..kernels.cuda import rates
from ..kernels.cuda.device import TEAM, WARP, array, at, do, i32, store
from ..kernels.cuda.imma import COLUMNS, DEPTH, ROWS
from ..kernels.cuda.sums import joined
from ..loops import Expr, Frame
from ..products import Finish
from .matrices import ONES, Matrices, Reader, Sums, Writer

SHARED = 48 << 10
"""Bytes of shared memory that a block may declare."""

_BESIDE = 4
"""Fragments whose columns a lane reads at once."""


@dataclass(frozen=True)
class ImmaTile:
    """``16*rows`` x ``8*columns`` sums, each split over ``warps``."""

    rows: int
    columns: int
    warps: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return ROWS * self.rows, COLUMNS * self.columns

    def sums(self, m: Matrices) -> int:
        """Of a lane, those of rows and columns among them."""
        extra = self.rows * m.sums_rows + self.columns * m.sums_columns
        return 4 * (self.rows * self.columns + extra)

    def blocks(self, m: Matrices) -> tuple[int, int, int]:
        """Products, and tiles of one along its rows and columns."""
        rows, columns = self.shape
        return m.count, -(-m.rows // rows), -(-m.columns // columns)

    def cost(self, m: Matrices) -> float:
        """Estimated cycles of a device."""
        share = -(-chunks(m) // self.warps)
        fragments = self.sums(m) / 4
        loaded = 512 * self.rows + (512 if m.beside else 256) * self.columns
        sums = self.rows * self.columns * 4
        chain = share * (rates.CHUNK + fragments * rates.IMMA * rates.QUARTERS)
        chain += sums * (rates.FINISH + self.warps)
        work = share * max(fragments * rates.IMMA, loaded / rates.L1)
        products, down, across = self.blocks(m)
        warps = products * down * across * self.warps
        return rates.cycles(warps, chain, work + sums * rates.FINISH / self.warps)


def chunks(m: Matrices) -> int:
    """Steps of the reduction."""
    return -(-m.depth // DEPTH)


def imma_tiles(m: Matrices) -> list[ImmaTile]:
    """All tiles that suit a product."""
    every = [
        ImmaTile(rows, columns, warps)
        for rows in (1, 2, 4)
        for columns in ((4, 8) if m.beside else (1, 2, 4, 8))
        for warps in (1, 2, 4, 8)
        if (rows == 1 or (rows - 1) * ROWS < m.rows)
        and (columns <= (4 if m.beside else 1) or columns * COLUMNS < m.columns + COLUMNS)
        and (warps == 1 or chunks(m) >= 2 * warps)
        and rows * columns <= 16
    ]
    return [t for t in every if t.sums(m) * (t.warps - 1) <= SHARED // (4 * WARP)]


def emit_imma(m: Matrices, tile: ImmaTile, frame: Frame, finish: Finish) -> int:
    """Emit the kernel; an iteration is a block of threads.  The number of blocks."""
    products, down, across = tile.blocks(m)
    threads = WARP * tile.warps
    I.func_attr({TEAM: threads})
    with I.launch_thread("threadIdx.x", threads) as me, I.serial(frame.lo, frame.hi) as block:
        rest = I.bind(tirx.truncdiv(block, i32(across)))
        first = I.bind(tirx.truncmod(block, i32(across)) * (COLUMNS * tile.columns))
        above = I.bind(tirx.truncmod(rest, i32(down)) * (ROWS * tile.rows))
        point = m.point(I.bind(tirx.truncdiv(rest, i32(down))))
        _Warp(m, tile, frame, me, above, first).run(point, finish)
    return products * down * across


class _Warp:
    """Emits the tile that begins at the row ``above`` and the column ``first``."""

    def __init__(
        self, m: Matrices, tile: ImmaTile, frame: Frame, me: Expr, above: Expr, first: Expr
    ) -> None:
        self.m, self.tile, self.frame, self.me, self.above, self.first = (
            m, tile, frame, me, above, first,
        )  # fmt: skip
        lane = I.bind(tirx.truncmod(me, WARP))
        self.group, self.part = I.bind(tirx.truncdiv(lane, 4)), I.bind(tirx.truncdiv(me, WARP))
        self.lane = I.bind(tirx.truncmod(lane, 4))
        self.rows = 4 * tile.rows * tile.columns  # where sums of rows begin, then of columns
        self.beneath = self.rows + 4 * tile.rows * m.sums_rows
        self.size = tile.sums(m)
        self.sums = array(self.size, "int32")

    def run(self, point: list[Expr], finish: Finish) -> None:
        """Sum, join what warps have summed, and finish."""
        with I.unroll(0, self.size) as i:
            store(self.sums, i32(0), i)
        self._accumulate(Reader.of(self.m, self.frame, point))
        warps = self.tile.warps
        with joined(self.sums, self.size, self.me, self.part, warps, WARP * warps):
            write = Writer.of(self.m, self.frame, finish, self.tile.shape, point)
            for row, column, places in self._results():
                write(row, column, [self._sums(*place) for place in places])

    def _results(self) -> Iterator[tuple[Expr, Expr, list[tuple[int, int, int]]]]:
        """Rows of the lane's results, first columns, and (row, fragment, column) of adjacent ones.

        These numbers count what the lane has of the tile.
        """
        beside, tile = self.m.beside, self.tile
        every = _BESIDE if beside else 1
        for i in range(2 * tile.rows):
            row = I.bind(self.above + self.group + COLUMNS * i)
            for j in range(0, tile.columns, every):
                for c in range(2 if beside else 1):
                    column = I.bind(self.first + self._column(j, self.lane * 2 + c))
                    fragments = [(i, j + f, c) for f in range(_BESIDE)]
                    yield row, column, fragments if beside else [(i, j, 0), (i, j, 1)]

    def _sums(self, i: int, j: int, c: int) -> Sums:
        """The sums of the lane's result in row ``i`` and column ``c`` of fragment ``j``."""
        low = (i % 2) * 2 + c
        own = ((i // 2) * self.tile.columns + j) * 4 + low
        return (
            self.sums[own],
            self.sums[self.rows + (i // 2) * 4 + low],
            self.sums[self.beneath + j * 4 + low],
        )

    def _column(self, j: int, number: Expr) -> Expr:
        """Of the tile: where the column ``number`` of fragment ``j`` is."""
        if not self.m.beside:
            return number + COLUMNS * j
        return number * _BESIDE + (j // _BESIDE * COLUMNS * _BESIDE + j % _BESIDE)

    def _accumulate(self, reader: Reader) -> None:
        """The loop over the reduction."""
        m, tile, step = self.m, self.tile, DEPTH
        rows = [reader.row(self.above + self.group + COLUMNS * i) for i in range(2 * tile.rows)]
        every = _BESIDE if m.beside else 1
        columns = [
            reader.column(self.first + self._column(j, self.group))
            for j in range(0, tile.columns, every)
        ]
        share = -(-chunks(m) // tile.warps)
        with I.serial(0, share) as i:
            number = I.bind(self.part * share + i) if tile.warps > 1 else i
            if chunks(m) % tile.warps:
                with I.If(number < chunks(m)), I.Then():
                    self._chunk(reader, rows, columns, I.bind(number * step + self.lane * 8))
            else:
                self._chunk(reader, rows, columns, I.bind(number * step + self.lane * 8))

    def _chunk(self, reader: Reader, rows: list[Expr], columns: list[Expr], term: Expr) -> None:
        m, tile, sums = self.m, self.tile, self.sums
        codes, weights = array(4 * tile.rows, "int32"), array(2 * tile.columns, "int32")
        for i, begin in enumerate(rows):
            low = 4 * (i // 2) + i % 2
            reader.left(codes, (low, low + 2), begin, term, DEPTH)
        for j, begin in enumerate(columns):
            if m.beside:
                self._beside(reader, weights, 2 * _BESIDE * j, begin, term)
            else:
                reader.below(weights, (2 * j, 2 * j + 1), begin, term)
        for i in range(tile.rows):
            for j in range(tile.columns):
                place = 4 * (i * tile.columns + j)
                do("qc_mma", at(sums, place), at(codes, 4 * i), at(weights, 2 * j))
        ones = array(4, "int32")
        if m.sums_rows or m.sums_columns:
            with I.unroll(0, 4) as i:
                store(ones, i32(ONES), i)
        if m.sums_rows:
            for i in range(tile.rows):
                do("qc_mma", at(sums, self.rows + 4 * i), at(codes, 4 * i), at(ones, 0))
        if m.sums_columns:
            for i in range(4):
                store(ones, reader.kept(i32(ONES), term + i // 2 * 4), i)
            for j in range(tile.columns):
                do("qc_mma", at(sums, self.beneath + 4 * j), at(ones, 0), at(weights, 2 * j))

    @staticmethod
    def _beside(reader: Reader, weights: Any, first: int, begin: Expr, term: Expr) -> None:
        """Eight terms of four columns: the words of four fragments."""
        words = array(8, "int32")
        for half in range(2):
            reader.beside(words, 4 * half, begin, term + 4 * half)
        for j in range(_BESIDE):
            for half in range(2):
                store(weights, words[4 * half + j], first + 2 * j + half)
