"""float32 depthwise convolution with fused multiply-add, for any vectors.

A tile is a few pixels of a row and a few vectors of channels.  Every column that the tile touches
is loaded once per row of the kernel and serves all pixels that read it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload, Tile, Tiling
from .depthwise_columns import readers
from .finish import Strip
from .isa import Expr, Isa, call, local
from .operands import Operands
from .tiles import strip_of, tiled


@dataclass(frozen=True)
class FloatColumnsKnobs:
    """A tile of ``pixels`` x (``vectors`` x lanes channels)."""

    pixels: int
    vectors: int


@dataclass(frozen=True)
class DepthwiseFloat:
    """The template for vectors of ``isa``, of which ``registers`` are there; any kernel and stride.

    ``rate``: multiply-adds, or loads, a cycle.  Its workloads have a ``FloatEpilogue`` and its
    kernels no multiplier.
    """

    isa: Isa
    registers: int
    rate: float = 2.0
    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: FloatColumnsKnobs
    ) -> NDArray[np.generic]:
        """float32 [C, 1, h, w] weights as [h, w, C]."""
        channels, _, height, width = weights.shape
        full = np.zeros((height, width, workload.y.channels), np.float32)
        full[:, :, :channels] = weights[:, 0].transpose(1, 2, 0)
        return full

    def extent(self, workload: ConvWorkload, knobs: FloatColumnsKnobs) -> int:
        """The number of tiles; neighbours may write equal values to shared pixels."""
        return self._tiling(workload, knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[FloatColumnsKnobs]:
        """Tiles whose sums, taps and one column fit the registers; at least one pixel."""
        most = max(1, workload.y.channels // self.isa.lanes)
        return [
            FloatColumnsKnobs(pixels, vectors)
            for vectors in range(1, min(4, most) + 1)
            for pixels in range(1, min(8, workload.y.width) + 1)
            if pixels == 1 or vectors * (pixels + workload.kernel[1] + 1) <= self.registers
        ]

    def cost(self, workload: ConvWorkload, knobs: FloatColumnsKnobs) -> float:
        """Estimated cycles."""
        (height, width), (_, right) = workload.kernel, workload.strides
        tiling, pixels = self._tiling(workload, knobs), knobs.pixels
        columns = (pixels - 1) * right + (width - 1) * workload.dilations[1] + 1
        row = max(pixels * width, columns + width) / self.rate
        vector = height * row + pixels * 1.5
        vectors = workload.y.channels / self.isa.lanes
        return tiling.tiles * (vectors * vector + 12.0 * vectors / knobs.vectors)

    def prim_func(self, workload: ConvWorkload, knobs: FloatColumnsKnobs, name: str) -> Any:
        """The kernel ``name``."""

        def sums(operands: Operands, tile: Tile) -> list[Strip]:
            return self._emit_tile(workload, knobs.pixels, operands, tile)

        (height, width), tiling = workload.kernel, self._tiling(workload, knobs)
        weights = workload.y.channels * height * width, "float32"
        return tiled(name, tiling, self.isa, weights, sums)

    def _tiling(self, workload: ConvWorkload, knobs: FloatColumnsKnobs) -> Tiling:
        return Tiling(workload, knobs.pixels, knobs.vectors * self.isa.lanes)

    def _emit_tile(
        self, workload: ConvWorkload, pixels: int, operands: Operands, tile: Tile
    ) -> list[Strip]:
        """Emit the sums of one tile; returns its strips, one per pixel."""
        lanes, vectors = self.isa.lanes, tile.channels // self.isa.lanes
        dtype, channels = f"float32x{self.isa.lanes}", workload.y.channels
        acc = local(pixels * vectors, dtype)
        for v in range(vectors):
            bias = I.bind(operands.bias.vload([tile.channel + v * lanes], dtype))
            for p in range(pixels):
                I.buffer_store(acc, bias, [p * vectors + v])
        (height, width), (down, apart) = workload.kernel, workload.dilations
        right = workload.strides[1]
        first = I.bind(tile.x + tile.channel)

        def load(buffer: Expr, index: Expr) -> list[Expr]:
            return [I.bind(buffer.vload([index + v * lanes], dtype)) for v in range(vectors)]

        with I.serial(0, height) as row:
            x = I.bind(first + row * (down * workload.x.row_stride))
            w = I.bind(tile.channel + row * (width * channels))
            taps = [load(operands.weights, w + t * channels) for t in range(width)]
            for column in range((pixels - 1) * right + (width - 1) * apart + 1):
                users = readers(column, pixels, right, width, apart)
                if users:
                    values = load(operands.x, x + column * workload.x.pixel_stride)
                for p, t in users:
                    for v in range(vectors):
                        at = p * vectors + v
                        total = call(dtype, "llvm.fma", values[v], taps[t][v], acc[at])
                        I.buffer_store(acc, total, [at])
        return [
            strip_of(workload, tile, p, [acc[p * vectors + v] for v in range(vectors)])
            for p in range(pixels)
        ]
