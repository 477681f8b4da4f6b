"""uint8 x int8 depthwise convolution with 16-bit multiplies, for NEON.

A tile is a few pixels of a row and sixteen channels.  Every column that the tile touches is loaded
and widened once per row of the kernel and serves all pixels that read it (smlal, smlal2).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload, Tile, Tiling
from .depthwise_plan import DepthwiseKnobs
from .finish import Strip
from .isa import Expr, local, shuffle
from .neon import Neon
from .operands import Operands
from .tiles import strip_of, tiled

_NEON = Neon()
_BLOCK = 16
_LANES = 8
_HALVES = _BLOCK // _LANES
_MOST = 6
"""Pixels of a tile at most: four accumulators each, and what a row of weights takes."""


@dataclass(frozen=True)
class DepthwiseColumns:
    """The template; channels are a multiple of 16, kernels and strides are arbitrary."""

    isa: Neon = _NEON
    most: int = _MOST
    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: DepthwiseKnobs
    ) -> NDArray[np.generic]:
        """int8 [C, 1, h, w] weights as int16 [blocks, h, w, 16]."""
        channels, _, height, width = weights.shape
        full = np.zeros((workload.y.channels, height, width), np.int16)
        full[:channels] = weights[:, 0]
        blocks = full.reshape(-1, _BLOCK, height, width).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(blocks)

    def extent(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> int:
        """The number of tiles; neighbours may write equal values to shared pixels."""
        return _tiling(workload, knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[DepthwiseKnobs]:
        """All numbers of pixels that fit the registers."""
        return [DepthwiseKnobs(n) for n in range(1, min(self.most, workload.y.width) + 1)]

    def cost(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> float:
        """Estimated cycles; a tile costs about one pixel more than it has."""
        (height, width), tiling = workload.kernel, _tiling(workload, knobs)
        pixel = 4.0 * height * width + 12
        return tiling.extent * ((knobs.pixels + 1) * pixel - 0.01 * knobs.pixels)

    def prim_func(self, workload: ConvWorkload, knobs: DepthwiseKnobs, name: str) -> Any:
        """The kernel ``name``."""

        def sums(operands: Operands, tile: Tile) -> list[Strip]:
            return _emit_tile(workload, knobs.pixels, operands, tile)

        (height, width), tiling = workload.kernel, _tiling(workload, knobs)
        return tiled(name, tiling, self.isa, (workload.y.channels * height * width, "int16"), sums)


def _tiling(workload: ConvWorkload, knobs: DepthwiseKnobs) -> Tiling:
    return Tiling(workload, knobs.pixels, _BLOCK)


def _emit_tile(workload: ConvWorkload, pixels: int, operands: Operands, tile: Tile) -> list[Strip]:
    """Emit the sums of one tile; returns its strips, one per pixel."""
    acc = local(pixels * _HALVES, "int32x8")
    for h in range(_HALVES):
        bias = I.bind(operands.bias.vload([tile.channel + _LANES * h], "int32x8"))
        for p in range(pixels):
            I.buffer_store(acc, bias, [p * _HALVES + h])
    (height, width), (_, right), (down, apart) = (
        workload.kernel, workload.strides, workload.dilations,
    )  # fmt: skip
    first = I.bind(tile.x + tile.channel)
    weights = I.bind(tile.channel * (height * width))
    with I.serial(0, height) as row:
        x = I.bind(first + row * (down * workload.x.row_stride))
        w = I.bind(weights + row * (width * _BLOCK))
        taps = [_halves(operands.weights, w + t * _BLOCK, "int16") for t in range(width)]
        for column in range((pixels - 1) * right + (width - 1) * apart + 1):
            users = readers(column, pixels, right, width, apart)
            if users:
                codes = _halves(operands.x, x + column * workload.x.pixel_stride, "uint8")
            for p, t in users:
                for h in range(_HALVES):
                    at = p * _HALVES + h
                    I.buffer_store(acc, acc[at] + codes[h] * taps[t][h], [at])
    return [strip_of(workload, tile, p, _channels(acc, p)) for p in range(pixels)]


def readers(column: int, pixels: int, right: int, width: int, apart: int) -> list[tuple[int, int]]:
    """(pixel, tap) that read a column of the tile."""
    pairs = ((p, column - p * right) for p in range(pixels))
    return [(p, d // apart) for p, d in pairs if d % apart == 0 and 0 <= d // apart < width]


def _halves(buffer: Expr, index: Expr, dtype: str) -> list[Expr]:
    """Sixteen elements as two vectors of int32, which LLVM multiplies before it widens them."""
    return [
        I.bind(tirx.Cast("int32x8", buffer.vload([index + _LANES * h], f"{dtype}x8")))
        for h in range(_HALVES)
    ]


def _channels(acc: Expr, pixel: int) -> list[Expr]:
    """The sums of one pixel, four channels a vector."""
    halves = [I.bind(acc[pixel * _HALVES + h]) for h in range(_HALVES)]
    return [shuffle([v], range(at, at + 4)) for v in halves for at in (0, 4)]
