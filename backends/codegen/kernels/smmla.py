"""uint8 x int8 convolution with usmmla (i8mm of ARM): two pixels by two channels an instruction.

An accumulator holds the sums of two pixels and two channels, over eight elements of the reduction
in each step; the epilogue sorts them by pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .conv import (
    PIXELS_FIRST,
    ConvWorkload,
    Tile,
    Tiling,
    collapse,
    in_both_orders,
    pack_blocks,
    reduction,
    runs_of,
)
from .finish import Strip
from .isa import Expr, local, shuffle
from .neon import Neon
from .operands import Operands
from .tiles import strip_of, tiled

_PAIR, _STEP = 2, 8
_VECTOR = _PAIR * _STEP
_REGISTERS = 30
_ISA = Neon()


@dataclass(frozen=True)
class PairKnobs:
    """A tile of ``pixels`` x ``channels``, both even, and the order of the tiles."""

    pixels: int
    channels: int
    channels_first: bool = True

    @property
    def accumulators(self) -> int:
        """Vectors of sums."""
        return self.pixels * self.channels // 4


@dataclass(frozen=True)
class Smmla:
    """The template; an output row has at least two pixels."""

    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: PairKnobs
    ) -> NDArray[np.generic]:
        """int8 OIHW weights as [channels/2, steps, 2, 8], runs padded to eight."""
        return pack_blocks(weights, collapse(workload), _PAIR, _STEP, _STEP)

    def extent(self, workload: ConvWorkload, knobs: PairKnobs) -> int:
        """The number of iterations; neighbours may write equal values to shared pixels."""
        return _tiling(collapse(workload), knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[PairKnobs]:
        """Tiles whose sums fit the registers, and the output."""
        tiles = [
            PairKnobs(pixels, channels)
            for channels in (4, 8, 16)
            for pixels in range(_PAIR, min(16, collapse(workload).y.width) + 1, _PAIR)
            if pixels * channels // 4 <= _REGISTERS - 6
        ]
        return in_both_orders(tiles, workload, _tiling)

    def cost(self, workload: ConvWorkload, knobs: PairKnobs) -> float:
        """Estimated cycles: two products a cycle, three instructions of any kind."""
        workload = collapse(workload)
        sums, pairs = knobs.accumulators, knobs.channels // _PAIR
        spills = max(0, sums + knobs.pixels // _PAIR + pairs - _REGISTERS)
        other = 2 * knobs.pixels + pairs + 4 + 2 * spills
        step = max(sums / 2, (sums + other) / 3)
        tile = runs_of(workload).total(_STEP) * step + sums * 3 + 15
        return tile * self.extent(workload, knobs) * (1 if knobs.channels_first else PIXELS_FIRST)

    def prim_func(self, workload: ConvWorkload, knobs: PairKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload = collapse(workload)

        def sums(operands: Operands, tile: Tile) -> list[Strip]:
            return _emit_tile(workload, knobs, operands, tile)

        size = workload.y.channels * runs_of(workload).total(_STEP) * _STEP
        return tiled(name, _tiling(workload, knobs), _ISA, (size, "int8"), sums)


def _tiling(workload: ConvWorkload, knobs: PairKnobs) -> Tiling:
    return Tiling(workload, knobs.pixels, knobs.channels, knobs.channels_first)


def _emit_tile(
    workload: ConvWorkload, knobs: PairKnobs, operands: Operands, tile: Tile
) -> list[Strip]:
    """Emit the sums of one tile; returns its strips, one per pixel."""
    rows, pairs = knobs.pixels // _PAIR, knobs.channels // _PAIR
    acc = local(rows * pairs, "int32x4")
    for j in range(pairs):
        bias = I.bind(operands.bias.vload([tile.channel + _PAIR * j], "int32x2"))
        both = I.bind(shuffle([bias, bias], range(4)))
        for i in range(rows):
            I.buffer_store(acc, both, [i * pairs + j])
    runs = runs_of(workload)
    total, step = runs.total(_STEP), workload.strides[1] * workload.x.pixel_stride
    with reduction(runs, _STEP) as (offset, chunk):
        x = I.bind(tile.x + offset)
        first = I.bind(tirx.truncdiv(tile.channel, _PAIR) * (total * _VECTOR) + chunk * _VECTOR)
        codes = [_two_pixels(operands.x, x + _PAIR * i * step, step) for i in range(rows)]
        for j in range(pairs):
            at = first + j * (total * _VECTOR)
            weights = I.bind(operands.weights.vload([at], f"int8x{_VECTOR}"))
            for i in range(rows):
                k = i * pairs + j
                I.buffer_store(acc, _ISA.multiply_matrices(acc[k], codes[i], weights), [k])
    return [strip_of(workload, tile, p, _channels(acc, p, pairs)) for p in range(knobs.pixels)]


def _two_pixels(x: Expr, index: Expr, step: int) -> Expr:
    """Eight codes of a pixel and eight of the next."""
    halves = [x.vload([index + i * step], f"uint8x{_STEP}") for i in range(_PAIR)]
    return I.bind(shuffle(halves, range(_VECTOR)))


def _channels(acc: Expr, pixel: int, pairs: int) -> list[Expr]:
    """The sums of one pixel, four channels a vector."""
    row, odd = divmod(pixel, _PAIR)
    order: Sequence[int] = [2, 3, 6, 7] if odd else [0, 1, 4, 5]
    first = row * pairs
    return [shuffle([acc[first + j], acc[first + j + 1]], order) for j in range(0, pairs, _PAIR)]
