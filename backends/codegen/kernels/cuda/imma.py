"""uint8 x int8 convolution on tensor cores: implicit GEMM by mma.sync.m16n8k32.

Rows of the matrix are pixels, columns are channels.  A lane of mma.m16n8k32 holds four bytes of the
reduction at two places, 4*t and 16 + 4*t; since any order of the sum is right, weights are packed
so that both come from eight adjacent bytes of a pixel, which go straight from the map into
registers.  Warps of a block share one tile and split its reduction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..conv import ConvWorkload, collapse, pack_blocks, runs_of
from ..isa import Expr
from ..operands import Operands, Signature, build
from . import rates
from .device import TEAM, WARP, aligned, array, at, do, store
from .epilogue import Finish
from .sums import Pixel, Split, alignment, joined, pixel_of

ROWS, COLUMNS, DEPTH = 16, 8, 32


@dataclass(frozen=True)
class ImmaKnobs:
    """A tile of ``16*rows`` pixels and ``8*columns`` channels, its sum split over ``warps``."""

    rows: int
    columns: int
    warps: int


@dataclass(frozen=True)
class Imma:
    """The template."""

    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: ImmaKnobs
    ) -> NDArray[np.generic]:
        """OIHW weights as [channels/8, chunks, 32 lanes, 8 bytes]."""
        blocks = pack_blocks(weights, collapse(workload), COLUMNS, 4, DEPTH)
        lanes = blocks.reshape(len(blocks), -1, 4, 2, COLUMNS, 4).transpose(0, 1, 4, 2, 3, 5)
        return np.ascontiguousarray(lanes.astype(np.int8))

    def extent(self, workload: ConvWorkload, knobs: ImmaKnobs) -> int:
        """The number of blocks."""
        return _tiles(workload, knobs) * (workload.y.channels // (COLUMNS * knobs.columns))

    def knob_space(self, workload: ConvWorkload) -> list[ImmaKnobs]:
        """Tiles that divide the channels; parts of at least two chunks."""
        blocks = workload.y.channels // COLUMNS
        chunks = runs_of(collapse(workload)).total(DEPTH)
        return [
            ImmaKnobs(rows, columns, warps)
            for rows in (1, 2, 4)
            for columns in (2, 4, 6, 8)
            for warps in (1, 2, 4, 8)
            if blocks % columns == 0
            and (rows == 1 or (rows - 1) * ROWS < workload.pixels)
            and (warps == 1 or chunks >= 2 * warps)
            and rows * columns <= 16
            and rows * columns * (warps - 1) <= 64  # shared memory
        ]

    def cost(self, workload: ConvWorkload, knobs: ImmaKnobs) -> float:
        """Estimated cycles of a device."""
        split = Split(runs_of(collapse(workload)), DEPTH, knobs.warps)
        products = knobs.rows * knobs.columns
        loaded = 512 * knobs.rows + 256 * knobs.columns
        chunk = rates.CHUNK + products * rates.IMMA * rates.QUARTERS
        chain = split.share * chunk + products * 4 * (rates.FINISH + knobs.warps)
        work = split.share * max(products * rates.IMMA, loaded / rates.L1)
        warps = workload.samples * self.extent(workload, knobs) * knobs.warps
        return rates.cycles(warps, chain, work + products * 4 * rates.FINISH / knobs.warps)

    def prim_func(self, workload: ConvWorkload, knobs: ImmaKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload = collapse(workload)
        split = Split(runs_of(workload), DEPTH, knobs.warps)
        size = workload.y.channels * split.chunks * DEPTH
        signature = Signature(
            workload.x, workload.y, workload.epilogue, workload.residual, size, "int8"
        )

        def body(operands: Operands) -> None:
            I.func_attr({TEAM: WARP * knobs.warps})
            threads = I.launch_thread("threadIdx.x", WARP * knobs.warps)
            with threads as me, I.serial(operands.lo, operands.hi) as block:
                _emit(workload, knobs, split, operands, me, block)

        return build(name, signature, body)


def _tiles(workload: ConvWorkload, knobs: ImmaKnobs) -> int:
    return -(-workload.pixels // (ROWS * knobs.rows))


@dataclass(frozen=True)
class _Lane:
    """Where a thread is: in its warp (``row``, ``column`` of a fragment), and its share of work.

    ``part``: of the reduction; ``group``: of the blocks of channels.
    """

    lane: Expr
    row: Expr
    column: Expr
    part: Expr
    group: Expr


def _emit(
    workload: ConvWorkload,
    knobs: ImmaKnobs,
    split: Split,
    operands: Operands,
    me: Expr,
    block: Expr,
) -> None:
    """One tile."""
    tiles = _tiles(workload, knobs)
    lane = I.bind(tirx.truncmod(me, WARP))
    place = _Lane(
        lane,
        I.bind(tirx.truncdiv(lane, 4)),
        I.bind(tirx.truncmod(lane, 4)),
        I.bind(tirx.truncdiv(me, WARP)),
        I.bind(tirx.truncdiv(block, tiles)),
    )
    first = I.bind(tirx.truncmod(block, tiles) * (ROWS * knobs.rows) + place.row)
    numbers = [I.bind(first + COLUMNS * i) for i in range(2 * knobs.rows)]
    last = workload.pixels - 1
    pixels = [pixel_of(workload, I.bind(tirx.min(n, last))) for n in numbers]
    size = 4 * knobs.rows * knobs.columns
    sums = array(size, "int32")
    with I.unroll(0, size) as i:
        store(sums, tirx.const(0, "int32"), i)
    load = aligned("qc_load8", gcd(alignment(workload, DEPTH), 8), "x")
    _accumulate(knobs, split, operands, pixels, sums, place, load)
    finish = Finish(workload, operands)
    with joined(sums, size, me, place.part, knobs.warps, WARP * knobs.warps):
        for i, (number, pixel) in enumerate(zip(numbers, pixels, strict=True)):
            with I.If(number <= last), I.Then():
                for j in range(knobs.columns):
                    pair = ((i // 2) * knobs.columns + j) * 4 + (i % 2) * 2
                    channel = (place.group * knobs.columns + j) * COLUMNS + place.column * 2
                    values = [sums[pair], sums[pair + 1]]
                    finish(values, pixel.row, pixel.column, I.bind(channel))


def _accumulate(
    knobs: ImmaKnobs,
    split: Split,
    operands: Operands,
    pixels: Sequence[Pixel],
    sums: Any,
    place: _Lane,
    load: str,
) -> None:
    """The loop over the reduction; ``load`` reads eight codes of a pixel."""
    codes, weights = array(4 * knobs.rows, "int32"), array(2 * knobs.columns, "int32")
    block = split.chunks * WARP * 8
    start = I.bind(place.group * (knobs.columns * block) + place.lane * 8)
    starts = [I.bind(p.x + place.column * 8) for p in pixels]
    with split.loop(place.part) as (element, chunk):
        for i, own in enumerate(starts):
            low = 4 * (i // 2) + i % 2
            do(load, at(codes, low), at(codes, low + 2), at(operands.x, own + element))
        here = I.bind(start + chunk * (WARP * 8))
        for j in range(knobs.columns):
            source = at(operands.weights, here + j * block)
            do(aligned("qc_load8", 8), at(weights, 2 * j), at(weights, 2 * j + 1), source)
        for i in range(knobs.rows):
            for j in range(knobs.columns):
                total = at(sums, 4 * (i * knobs.columns + j))
                do("qc_mma", total, at(codes, 4 * i), at(weights, 2 * j))
