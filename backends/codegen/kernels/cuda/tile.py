"""Convolution by threads that each hold a few sums: dp4a for codes, multiply-adds for float32.

A thread computes ``pixels`` x 4 channels; neighbours in a warp have neighbouring channels, so that
they read the same pixels and adjacent weights.  Several threads may split the reduction of a tile.
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

CHANNELS = 4
BLOCK = 128
"""Threads of a block that splits sums."""


@dataclass(frozen=True)
class TileKnobs:
    """``pixels`` of a thread; ``parts``: threads that share a tile's sums."""

    pixels: int
    parts: int = 1


@dataclass(frozen=True)
class Tile:
    """The template; ``size``: elements of ``x`` in a step, 4 (codes) or 1 (float32)."""

    size: int
    shift: ClassVar[int] = 0

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return "int8" if self.size > 1 else "float32"

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: TileKnobs
    ) -> NDArray[np.generic]:
        """OIHW weights as [steps, channels, size]."""
        workload = collapse(workload)
        chunk = self._chunk(workload)
        blocks = pack_blocks(weights, workload, workload.y.channels, self.size, chunk)
        return np.ascontiguousarray(blocks[0].astype(self.dtype))

    def extent(self, workload: ConvWorkload, knobs: TileKnobs) -> int:
        """The number of threads, or of blocks where threads split sums."""
        units = _units(workload, knobs)
        return units if knobs.parts == 1 else -(-units * knobs.parts // BLOCK)

    def knob_space(self, workload: ConvWorkload) -> list[TileKnobs]:
        """Tiles within the image; float32 sums are never split, which would change them."""
        workload = collapse(workload)
        chunks = runs_of(workload).total(self._chunk(workload))
        return [
            TileKnobs(pixels, parts)
            for pixels in (1, 2, 4)
            for parts in ((1, 2, 4, 8, 16) if self.size > 1 else (1,))
            if pixels <= workload.pixels and (parts == 1 or chunks >= 2 * parts)
        ]

    def cost(self, workload: ConvWorkload, knobs: TileKnobs) -> float:
        """Estimated cycles of a device."""
        workload = collapse(workload)
        split = Split(runs_of(workload), self._chunk(workload), knobs.parts)
        steps = split.chunk // self.size
        products = knobs.pixels * CHANNELS
        loaded = WARP * steps * (16 + knobs.pixels)
        chunk = rates.CHUNK + products * steps * rates.DOT * rates.QUARTERS
        chain = split.share * chunk + products * (rates.FINISH + knobs.parts)
        work = split.share * max(products * steps * rates.DOT, loaded / rates.L1)
        warps = workload.samples * -(-_units(workload, knobs) * knobs.parts // WARP)
        return rates.cycles(warps, chain, work + products * rates.FINISH / knobs.parts)

    def prim_func(self, workload: ConvWorkload, knobs: TileKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload = collapse(workload)
        split = Split(runs_of(workload), self._chunk(workload), knobs.parts)
        size = workload.y.channels * split.chunks * split.chunk
        signature = Signature(
            workload.x, workload.y, workload.epilogue, workload.residual, size, self.dtype
        )

        def body(operands: Operands) -> None:
            if knobs.parts == 1:
                with I.serial(operands.lo, operands.hi) as unit:
                    self._emit(workload, knobs, split, operands, unit, (unit, unit))
                return
            I.func_attr({TEAM: BLOCK})
            step = BLOCK // knobs.parts
            last = _units(workload, knobs) - 1
            threads = I.launch_thread("threadIdx.x", BLOCK)
            with threads as me, I.serial(operands.lo, operands.hi) as block:
                unit = I.bind(tirx.min(block * step + tirx.truncmod(me, step), last))
                part = I.bind(tirx.truncdiv(me, step))
                self._emit(workload, knobs, split, operands, unit, (me, part))

        return build(name, signature, body)

    def _chunk(self, workload: ConvWorkload) -> int:
        """Elements of a thread's step: 16 codes, or 8 reals, where runs hold so many."""
        length = runs_of(workload).length
        if self.size == 1:
            return gcd(length, 8)
        return 16 if length % 16 == 0 else 4

    def _emit(
        self,
        workload: ConvWorkload,
        knobs: TileKnobs,
        split: Split,
        operands: Operands,
        unit: Expr,
        team: tuple[Expr, Expr],
    ) -> None:
        """One tile; ``team``: the thread's number in its block, and its part of the sums."""
        groups, size = workload.y.channels // CHANNELS, knobs.pixels * CHANNELS
        channel = I.bind(tirx.truncmod(unit, groups) * CHANNELS)
        first = I.bind(tirx.truncdiv(unit, groups) * knobs.pixels)
        if workload.pixels % knobs.pixels:  # the last tile overlaps its neighbour
            first = I.bind(tirx.min(first, workload.pixels - knobs.pixels))
        pixels = [pixel_of(workload, I.bind(first + i)) for i in range(knobs.pixels)]
        dtype = "float32" if self.size == 1 else "int32"
        sums = array(size, dtype)
        with I.unroll(0, size) as i:
            store(sums, tirx.const(0, dtype), i)
        self._accumulate(workload, split, operands, (sums, pixels, channel), team[1])
        finish, (me, part) = Finish(workload, operands), team
        with joined(sums, size, me, part, knobs.parts, BLOCK):
            for i, pixel in enumerate(pixels):
                values = [sums[i * CHANNELS + c] for c in range(CHANNELS)]
                finish(values, pixel.row, pixel.column, channel)

    def _accumulate(
        self,
        workload: ConvWorkload,
        split: Split,
        operands: Operands,
        tile: tuple[Any, Sequence[Pixel], Expr],
        part: Expr,
    ) -> None:
        """The loop over the reduction."""
        sums, pixels, channel = tile
        steps = split.chunk // self.size
        stride = workload.y.channels * self.size
        load = aligned(f"qc_load{split.chunk}", alignment(workload, split.chunk), "x")
        with split.loop(part) as (element, number):
            start = I.bind(number * (steps * stride) + channel * self.size)
            if self.size == 1:
                for s in range(steps):
                    self._multiply(operands, sums, pixels, element + s, start + s * stride)
                return
            codes, weights = array(len(pixels) * steps, "int32"), array(CHANNELS, "int32")
            for i, pixel in enumerate(pixels):
                source = at(operands.x, pixel.x + element)
                do(load, at(codes, i * steps), source)
            for s in range(steps):
                source = at(operands.weights, start + s * stride)
                do(aligned("qc_load16", 16), at(weights, 0), source)
                for i in range(len(pixels)):
                    for c in range(CHANNELS):
                        k = i * CHANNELS + c
                        dot = tirx.call_pure_extern(
                            "int32", "qc_dot", codes[i * steps + s], weights[c], sums[k]
                        )
                        store(sums, dot, k)

    @staticmethod
    def _multiply(
        operands: Operands, sums: Any, pixels: Sequence[Pixel], element: Expr, start: Expr
    ) -> None:
        values = [I.bind(operands.x[pixel.x + element]) for pixel in pixels]
        for c in range(CHANNELS):
            weight = I.bind(operands.weights[start + c])
            for i, value in enumerate(values):
                k = i * CHANNELS + c
                total = tirx.call_pure_extern("float32", "fmaf", value, weight, sums[k])
                store(sums, total, k)


def _units(workload: ConvWorkload, knobs: TileKnobs) -> int:
    return -(-workload.pixels // knobs.pixels) * (workload.y.channels // CHANNELS)
