"""uint8 x int8 convolution with vpmaddubsw of AVX2, exact: ``short_sums`` divides the weights.

A tile is pixels x 8 channels.  Every block of channels has groups of its own, with as many visits
as its weights need; the packed weights say what a visit reads and where the groups of a block end.
Two steps take five instructions, where the widening template has eight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import add
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
    runs_of,
)
from .finish import Strip
from .isa import Expr, local, splat
from .operands import Operands
from .short_sums import Groups, divide, visits
from .tiles import strip_of, tiled
from .x86 import X86

_ISA = X86(8)
_LANES, _STEP = _ISA.lanes, 4
_VISIT = _LANES * _STEP
_DEPTHS = (2, 4)
_PARTS = 16
_PIXELS = 12
_NEAR = 1.1


@dataclass(frozen=True)
class ShortKnobs:
    """A tile of ``pixels``, the visits of a group, and the order of the tiles."""

    pixels: int
    depth: int
    channels_first: bool = True


def counted(workload: ConvWorkload, weights: NDArray[np.generic]) -> ConvWorkload:
    """The workload with the ``visits`` that its weights take: sixteenths of the steps, by depth."""
    blocks = _blocks(weights, workload)
    return replace(workload, visits=_counts(blocks.tobytes(), blocks.shape))


@dataclass(frozen=True)
class ShortConv:
    """The template, for workloads that are ``counted``."""

    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: ShortKnobs
    ) -> NDArray[np.generic]:
        """OIHW weights as one array of int8.

        The first group of every block and the number of all (int32, filled up to a vector), the
        weights of all visits, their offsets in ``x`` (int32).
        """
        blocks = _blocks(weights, workload)
        groups = _divided(blocks.tobytes(), blocks.shape, knobs.depth)
        return _packed(groups, collapse(workload))

    def sample(self, workload: ConvWorkload, knobs: ShortKnobs) -> NDArray[np.generic]:
        """Zeros, packed with as many visits as the workload has, to time a kernel."""
        workload = collapse(workload)
        blocks, steps = workload.y.channels // _LANES, runs_of(workload).total(_STEP)
        groups = -(-round(steps * _visits(workload, knobs.depth)) // knobs.depth)
        order = np.arange(groups * knobs.depth) * steps // (groups * knobs.depth)
        order = np.tile(order.reshape(groups, knobs.depth), (blocks, 1))
        zeros = np.zeros((*order.shape, _VISIT), np.int8)
        return _packed(Groups(order, zeros, np.arange(blocks + 1) * groups), workload)

    def extent(self, workload: ConvWorkload, knobs: ShortKnobs) -> int:
        """The number of iterations; neighbours may write equal values to shared pixels."""
        return _tiling(collapse(workload), knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[ShortKnobs]:
        """Tiles which fit the registers and the output; of the depths those that may be best."""
        most = min(_PIXELS, collapse(workload).y.width)
        rates = {depth: _rate(workload, depth) for depth in _DEPTHS}
        depths = [depth for depth in _DEPTHS if rates[depth] <= _NEAR * min(rates.values())]
        tiles = [ShortKnobs(p, depth) for depth in depths for p in range(1, most + 1)]
        return in_both_orders(tiles, workload, _tiling)

    def cost(self, workload: ConvWorkload, knobs: ShortKnobs) -> float:
        """Estimated cycles, as measured on Zen 3 (``qc tune``): three instructions a cycle."""
        workload = collapse(workload)
        steps = runs_of(workload).total(_STEP)
        groups = steps * _visits(workload, knobs.depth) / knobs.depth
        products = steps * _rate(workload, knobs.depth) * knobs.pixels
        tile = products + groups * 2.3 + knobs.pixels * 3.5 + 25
        return tile * self.extent(workload, knobs) * (1 if knobs.channels_first else PIXELS_FIRST)

    def prim_func(self, workload: ConvWorkload, knobs: ShortKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload = collapse(workload)

        def sums(operands: Operands, tile: Tile) -> list[Strip]:
            return _emit_tile(workload, knobs, operands, tile)

        # How many visits follow is a matter of the weights: the code is the same for all.
        least = _header(workload) + workload.y.channels * runs_of(workload).total(_STEP) * _STEP
        return tiled(name, _tiling(workload, knobs), _ISA, (least, "int8"), sums)


def _visits(workload: ConvWorkload, depth: int) -> float:
    """Of a step, by the weights of a block in the mean."""
    return workload.visits[_DEPTHS.index(depth)] / _PARTS


def _rate(workload: ConvWorkload, depth: int) -> float:
    """Cycles that a step takes for every pixel."""
    return _visits(workload, depth) * (2 * depth + 1) / (3 * depth)


def _blocks(weights: NDArray[np.generic], workload: ConvWorkload) -> NDArray[np.generic]:
    return pack_blocks(weights, collapse(workload), _LANES, _STEP, _STEP)


@lru_cache(maxsize=2)
def _counts(blocks: bytes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Kept for the samples of a batch, which are a layer each."""
    codes = np.frombuffer(blocks, np.int8).reshape(shape)
    return tuple(round(visits(codes, depth) * _PARTS) for depth in _DEPTHS)


@lru_cache(maxsize=2)
def _divided(blocks: bytes, shape: tuple[int, ...], depth: int) -> Groups:
    """As ``_counts``."""
    return divide(np.frombuffer(blocks, np.int8).reshape(shape), depth)


def _packed(groups: Groups, workload: ConvWorkload) -> NDArray[np.generic]:
    offsets = _offsets(workload)[groups.steps].astype(np.int32)
    starts = np.zeros(_header(workload) // 4, np.int32)
    starts[: len(groups.starts)] = groups.starts
    parts = [starts.view(np.int8), groups.weights.reshape(-1), offsets.reshape(-1).view(np.int8)]
    return np.concatenate(parts)


def _header(workload: ConvWorkload) -> int:
    """The bytes where the starts are."""
    return -(-4 * (workload.y.channels // _LANES + 1) // _VISIT) * _VISIT


def _offsets(workload: ConvWorkload) -> NDArray[np.intp]:
    """Of every step, in elements of ``x`` from a tile's first."""
    runs = runs_of(workload)
    row, tap, chunk = np.ix_(*map(np.arange, (runs.rows, runs.taps, runs.chunks(_STEP))))
    return (row * runs.row_step + tap * runs.tap_step + chunk * _STEP).reshape(-1)


def _tiling(workload: ConvWorkload, knobs: ShortKnobs) -> Tiling:
    return Tiling(workload, knobs.pixels, _LANES, knobs.channels_first)


def _emit_tile(
    workload: ConvWorkload, knobs: ShortKnobs, operands: Operands, tile: Tile
) -> list[Strip]:
    """Emit the sums of one tile; returns its strips, one per pixel."""
    acc = local(knobs.pixels, f"int32x{_LANES}")
    bias = I.bind(operands.bias.vload([tile.channel], f"int32x{_LANES}"))
    for i in range(knobs.pixels):
        I.buffer_store(acc, bias, [i])
    step = workload.strides[1] * workload.x.pixel_stride
    first, last, total = (
        I.bind(_int32(operands, 4 * at))
        for at in (tile.block, tile.block + 1, workload.y.channels // _LANES)
    )
    weights, group_size = _header(workload), knobs.depth * _VISIT
    offsets = I.bind(weights + total * group_size)
    with I.serial(first, last) as group:
        places = [
            I.bind(tile.x + _int32(operands, offsets + 4 * (group * knobs.depth + visit)))
            for visit in range(knobs.depth)
        ]
        start = I.bind(weights + group * group_size)
        factors = [
            I.bind(operands.weights.vload([start + visit * _VISIT], f"int8x{_VISIT}"))
            for visit in range(knobs.depth)
        ]
        for i in range(knobs.pixels):
            codes = [_broadcast(operands.x, place + i * step) for place in places]
            I.buffer_store(acc, acc[i] + _dot(codes, factors), [i])
    return [strip_of(workload, tile, i, [acc[i]]) for i in range(knobs.pixels)]


def _int32(operands: Operands, at: Expr) -> Expr:
    """Four bytes among the packed weights."""
    return tirx.reinterpret("int32", operands.weights.vload([at], "int8x4"))


def _broadcast(x: Expr, index: Expr) -> Expr:
    """Four adjacent uint8 in every lane."""
    quad = tirx.Broadcast(tirx.reinterpret("uint32", x.vload([index], "uint8x4")), _LANES)
    return tirx.reinterpret(f"uint8x{_VISIT}", quad)


def _dot(codes: Sequence[Expr], weights: Sequence[Expr]) -> Expr:
    """The sum of all products in every lane; that of a pair of all visits fits 16 bits."""
    pairs = [_ISA.multiply_bytes(c, w) for c, w in zip(codes, weights, strict=True)]
    return _ISA.multiply_pairs(reduce(add, pairs), splat(1, "int16", 2 * _LANES))
