"""The convolution whose accumulators live in vector registers, for any dot instruction.

A tile of ``pixels`` x ``vectors`` accumulators goes through the whole reduction: per step every
pixel's few elements are broadcast once and meet the weights of all its vectors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
from .isa import Expr, Isa, local
from .operands import Operands
from .tiles import strip_of, tiled


@dataclass(frozen=True)
class RegisterKnobs:
    """A tile of ``pixels`` x (``vectors`` x lanes channels), and the order of the tiles."""

    pixels: int
    vectors: int
    channels_first: bool = True


def interleaved(steps: NDArray[np.generic], parts: int) -> NDArray[np.generic]:
    """Part ``p`` has the elements ``p, p + parts, ...`` of every lane."""
    split = steps.reshape(*steps.shape[:-1], -1, parts)
    return np.moveaxis(split, -1, -3)


@dataclass(frozen=True)
class Dot:
    """A way to add ``size`` products to every lane in one step.

    Attributes:
        isa: the vectors.
        size: elements of the reduction per lane and step.
        weights_dtype: of the packed weights, of which every step reads ``parts`` vectors.
        acc_dtype: of the accumulator.
        broadcast: (x, index) -> ``parts`` vectors of one pixel.
        add: (acc, vector of the pixel, vector of weights) -> acc.
        shift: what ``broadcast`` takes off every element of ``x``.
        least: the least weight for which the sums are exact.
        by_parts: all pixels meet one part of the weights before the next.
        arrange: the weights of steps ``[..., lanes, size]`` as ``[..., parts, weights_lanes]``.
    """

    isa: Isa
    size: int
    parts: int
    weights_dtype: str
    acc_dtype: str
    broadcast: Callable[[Expr, Expr], Sequence[Expr]]
    add: Callable[[Expr, Expr, Expr], Expr]
    shift: int = 0
    least: int = -128
    arrange: Callable[[NDArray[np.generic], int], NDArray[np.generic]] = interleaved
    by_parts: bool = False

    @property
    def weights_lanes(self) -> int:
        """Elements of one vector of weights."""
        return self.isa.lanes * self.size // self.parts


@dataclass(frozen=True)
class RegisterConv:
    """The template: a dot instruction, how many accumulators fit, and an estimate of cycles.

    ``cycles(pixels, vectors, steps)``: of one tile with its epilogue.
    """

    dot: Dot
    accumulators: int
    cycles: Callable[[int, int, int], float]

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: RegisterKnobs
    ) -> NDArray[np.generic]:
        """OIHW weights as [channels/lanes, steps, parts, lanes of a vector of weights]."""
        dot = self.dot
        if dot.weights_dtype == "int8" and weights.min(initial=0) < dot.least:
            raise ValueError(f"weights below {dot.least} have no kernel for this cpu yet")
        blocks = pack_blocks(weights, collapse(workload), dot.isa.lanes, dot.size, dot.size)
        arranged = dot.arrange(blocks, dot.parts)
        return np.ascontiguousarray(arranged.astype(dot.weights_dtype))

    @property
    def shift(self) -> int:
        """What is taken off every code."""
        return self.dot.shift

    def extent(self, workload: ConvWorkload, knobs: RegisterKnobs) -> int:
        """The number of iterations; neighbours may write equal values to shared pixels."""
        return self._tiling(collapse(workload), knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[RegisterKnobs]:
        """Register tiles which fit the registers and the output."""
        y, most = collapse(workload).y, self.accumulators
        tiles = [
            RegisterKnobs(pixels, vectors)
            for vectors in range(1, min(most // 2, y.channels // self.dot.isa.lanes) + 1)
            for pixels in range(1, min(most // vectors, 16, y.width) + 1)
        ]
        return in_both_orders(tiles, workload, self._tiling)

    def cost(self, workload: ConvWorkload, knobs: RegisterKnobs) -> float:
        """Estimated cycles of the whole kernel."""
        workload = collapse(workload)
        tiling, steps = self._tiling(workload, knobs), runs_of(workload).total(self.dot.size)
        total = self.cycles(knobs.pixels, knobs.vectors, steps) * tiling.full_blocks
        if tiling.tail:
            total += self.cycles(knobs.pixels, tiling.tail // self.dot.isa.lanes, steps)
        return total * tiling.tiles * (1 if knobs.channels_first else PIXELS_FIRST)

    def prim_func(self, workload: ConvWorkload, knobs: RegisterKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload, dot = collapse(workload), self.dot

        def sums(operands: Operands, tile: Tile) -> list[Strip]:
            return _emit_tile(workload, knobs.pixels, dot, operands, tile)

        size = workload.y.channels * runs_of(workload).total(dot.size) * dot.size
        weights = size, dot.weights_dtype
        return tiled(name, self._tiling(workload, knobs), dot.isa, weights, sums)

    def _tiling(self, workload: ConvWorkload, knobs: RegisterKnobs) -> Tiling:
        channels = knobs.vectors * self.dot.isa.lanes
        return Tiling(workload, knobs.pixels, channels, knobs.channels_first)


def _emit_tile(
    workload: ConvWorkload, pixels: int, dot: Dot, operands: Operands, tile: Tile
) -> list[Strip]:
    """Emit the accumulation of one tile; returns its strips, one per pixel."""
    lanes, vectors = dot.isa.lanes, tile.channels // dot.isa.lanes
    acc = local(pixels * vectors, f"{dot.acc_dtype}x{lanes}")
    _start(acc, pixels, vectors, dot, operands, tile)
    runs = runs_of(workload)
    step, total = workload.strides[1] * workload.x.pixel_stride, runs.total(dot.size)
    with reduction(runs, dot.size) as (offset, chunk):
        x = I.bind(tile.x + offset)
        weights = _load_weights(total, chunk, vectors, dot, operands, tile)
        for i, parts in _operands(dot, operands.x, [x + i * step for i in range(pixels)]):
            for j in range(vectors):
                at = i * vectors + j
                for part, pixel in parts:
                    I.buffer_store(acc, dot.add(acc[at], pixel, weights[j][part]), [at])
    return [
        strip_of(workload, tile, i, [acc[i * vectors + j] for j in range(vectors)])
        for i in range(pixels)
    ]


def _operands(
    dot: Dot, x: Expr, places: Sequence[Expr]
) -> Iterator[tuple[int, list[tuple[int, Expr]]]]:
    """Pixels and their (part, vector), in the order in which they meet the weights.

    Pixel by pixel few vectors of codes are alive, part by part few vectors of weights.
    """
    if not dot.by_parts:
        for i, place in enumerate(places):
            yield i, list(enumerate(map(I.bind, dot.broadcast(x, place))))
        return
    rows = [dot.broadcast(x, place) for place in places]
    for part in range(dot.parts):
        for i, row in enumerate(rows):
            yield i, [(part, I.bind(row[part]))]


def _start(acc: Expr, pixels: int, vectors: int, dot: Dot, operands: Operands, tile: Tile) -> None:
    """Start the accumulators at the bias."""
    lanes = dot.isa.lanes
    for j in range(vectors):
        index = tile.channel + j * lanes
        bias = I.bind(operands.bias.vload([index], f"{dot.acc_dtype}x{lanes}"))
        for i in range(pixels):
            I.buffer_store(acc, bias, [i * vectors + j])


def _load_weights(
    total: int, chunk: Expr, vectors: int, dot: Dot, operands: Operands, tile: Tile
) -> list[list[Expr]]:
    """The weights of one step: for each vector of channels its parts."""
    lanes = dot.weights_lanes
    dtype, block = f"{dot.weights_dtype}x{lanes}", total * dot.parts * lanes
    first = tirx.truncdiv(tile.channel, dot.isa.lanes) * block + chunk * (dot.parts * lanes)
    first = I.bind(first)
    return [
        [
            I.bind(operands.weights.vload([first + j * block + part * lanes], dtype))
            for part in range(dot.parts)
        ]
        for j in range(vectors)
    ]
