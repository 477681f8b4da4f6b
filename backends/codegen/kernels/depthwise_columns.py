"""uint8 x int8 depthwise convolution with 16-bit multiplies, for NEON.

A tile is a few pixels of a row and sixteen channels.  Every column that the tile touches is loaded
and widened once per row of the kernel and serves all pixels that read it (smlal, smlal2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload, Tile, Tiling, emit_tiles
from .depthwise_plan import DepthwiseKnobs
from .epilogue import Epilogue
from .finish import Strip, finish
from .isa import Expr, call, local, shuffle
from .neon import Neon
from .operands import Operands, Signature, build

_BLOCK = 16
_QUADS = _BLOCK // 4
_MOST = 6
"""Pixels of a tile at most: four accumulators each, and what a row of weights takes."""


@dataclass(frozen=True)
class DepthwiseColumns:
    """The template; channels are a multiple of 16, kernels and strides are arbitrary."""

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: DepthwiseKnobs
    ) -> NDArray[np.generic]:
        """int8 [C, 1, h, w] weights as int16 [blocks, h, w, 16]."""
        channels, _, height, width = weights.shape
        full = np.zeros((workload.y.channels, height, width), np.int16)
        full[:channels] = weights[:, 0]
        blocks = full.reshape(-1, _BLOCK, height, width).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(blocks)

    def bias(self, bias: NDArray[np.generic], weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """The bias itself."""
        return bias

    def extent(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> int:
        """The number of tiles; neighbours may write equal values to shared pixels."""
        return _tiling(workload, knobs).extent

    def default_knobs(self, workload: ConvWorkload) -> DepthwiseKnobs:
        """The most pixels that waste the least."""
        return max(
            self.knob_space(workload),
            key=lambda k: (-_tiling(workload, k).tiles_per_row * (k.pixels + 1), k.pixels),
        )

    def knob_space(self, workload: ConvWorkload) -> list[DepthwiseKnobs]:
        """All numbers of pixels that fit the registers."""
        return [DepthwiseKnobs(n) for n in range(1, min(_MOST, workload.y.width) + 1)]

    def prim_func(self, workload: ConvWorkload, knobs: DepthwiseKnobs, name: str) -> Any:
        """The kernel ``name``."""
        epilogue, (height, width) = workload.epilogue, workload.kernel
        assert isinstance(epilogue, Epilogue)
        size = workload.y.channels * height * width
        signature = Signature(workload.x, workload.y, epilogue, workload.residual, size, "int16")

        def body(operands: Operands) -> None:
            def tile_body(tile: Tile) -> None:
                strips = _emit_tile(workload, knobs.pixels, operands, tile)
                finish(strips, Neon(), epilogue, operands)

            emit_tiles(_tiling(workload, knobs), operands, tile_body)

        return build(name, signature, body)


def _tiling(workload: ConvWorkload, knobs: DepthwiseKnobs) -> Tiling:
    return Tiling(workload, knobs.pixels, _BLOCK)


def _emit_tile(workload: ConvWorkload, pixels: int, operands: Operands, tile: Tile) -> list[Strip]:
    """Emit the sums of one tile; returns its strips, one per pixel."""
    acc = local(pixels * _QUADS, "int32x4")
    for g in range(_QUADS):
        bias = I.bind(operands.bias.vload([tile.channel + 4 * g], "int32x4"))
        for p in range(pixels):
            I.buffer_store(acc, bias, [p * _QUADS + g])
    (height, width), (_, right), (down, apart) = (
        workload.kernel, workload.strides, workload.dilations,
    )  # fmt: skip
    first = I.bind(tile.x + tile.channel)
    weights = I.bind(tile.channel * (height * width))
    with I.serial(0, height) as row:
        x = I.bind(first + row * (down * workload.x.row_stride))
        w = I.bind(weights + row * (width * _BLOCK))
        taps = [_words(operands.weights, w + t * _BLOCK) for t in range(width)]
        for column in range((pixels - 1) * right + (width - 1) * apart + 1):
            users = _users(column, pixels, right, width, apart)
            if users:
                codes = operands.x.vload([x + column * workload.x.pixel_stride], "uint8x16")
                values = _quads(I.bind(tirx.Cast("int16x16", codes)))
            for p, t in users:
                for g in range(_QUADS):
                    at = p * _QUADS + g
                    product = call(
                        "int32x4", "llvm.aarch64.neon.smull.v4i32", values[g], taps[t][g]
                    )
                    I.buffer_store(acc, acc[at] + product, [at])
    return [_strip(workload, acc, p, tile) for p in range(pixels)]


def _users(column: int, pixels: int, right: int, width: int, apart: int) -> list[tuple[int, int]]:
    """(pixel, tap) that read a column of the tile."""
    pairs = ((p, column - p * right) for p in range(pixels))
    return [(p, d // apart) for p, d in pairs if d % apart == 0 and 0 <= d // apart < width]


def _words(weights: Expr, index: Expr) -> list[Expr]:
    """Sixteen int16 as four vectors."""
    return _quads(I.bind(weights.vload([index], "int16x16")))


def _quads(words: Expr) -> list[Expr]:
    return [I.bind(shuffle([words], range(4 * g, 4 * g + 4))) for g in range(_QUADS)]


def _strip(workload: ConvWorkload, acc: Expr, pixel: int, tile: Tile) -> Strip:
    residual = None
    if workload.residual is not None:
        residual = tile.residual + pixel * workload.residual.pixel_stride
    vectors = tuple(acc[pixel * _QUADS + g] for g in range(_QUADS))
    return Strip(vectors, tile.channel, tile.y + pixel * workload.y.pixel_stride, residual)
