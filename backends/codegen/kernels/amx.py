"""uint8 x int8 convolution with AMX (tdpbusd).

A row of a tile register is a pixel, so tiles load straight from the NHWC map, without im2col.
Accumulator tiles start as the bias (a load with stride 0) and are finished from a stack array.
The process must have asked Linux for the tile state: ``arch_prctl(0x1023, 18)``.
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
    emit_tiles,
    in_both_orders,
    pack_blocks,
    reduction,
    runs_of,
)
from .epilogue import Epilogue
from .finish import Strip, finish
from .isa import Expr, local
from .operands import Operands, Signature, build
from .x86 import X86

_CHUNK = 64
_LANES = 16
_REGISTERS = 8
_NEAR_BYTES = 32 << 10


@dataclass(frozen=True)
class AmxKnobs:
    """Register tiles of ``rows`` pixels; ``pixels`` x ``channels`` of them accumulate."""

    rows: int
    pixels: int
    channels: int
    channels_first: bool = True


@dataclass(frozen=True)
class Amx:
    """The template; ``vbmi``: the cpu has vpermi2b, for table look-ups."""

    vbmi: bool = False
    shift: ClassVar[int] = 0

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: AmxKnobs
    ) -> NDArray[np.generic]:
        """int8 OIHW weights as [channels/16, K/4, 16, 4], runs padded to 64."""
        return pack_blocks(weights, collapse(workload), _LANES, 4, _CHUNK)

    def extent(self, workload: ConvWorkload, knobs: AmxKnobs) -> int:
        """The number of independent iterations."""
        return _tiling(collapse(workload), knobs).extent

    def knob_space(self, workload: ConvWorkload) -> list[AmxKnobs]:
        """Arrangements which fit the eight tile registers and the output."""
        workload = collapse(workload)
        width, blocks = workload.y.width, workload.y.channels // _LANES
        tiles = [
            AmxKnobs(rows, pixels, channels)
            for pixels, most in ((1, 6), (2, 2), (3, 1), (4, 1))
            for channels in range(1, min(most, blocks) + 1)
            for rows in range(min(16, width // pixels), max(0, min(16, width // pixels) - 5), -1)
        ]
        return in_both_orders(tiles, workload, _tiling)

    def cost(self, workload: ConvWorkload, knobs: AmxKnobs) -> float:
        """Estimated cycles of the whole kernel."""
        workload = collapse(workload)
        tiling = _tiling(workload, knobs)
        steps = runs_of(workload).total(_CHUNK)
        blocks = [knobs.channels] * tiling.full_blocks
        if tiling.tail:
            blocks.append(tiling.tail // _LANES)
        total = sum(_tile_cost(knobs, channels, steps) for channels in blocks) * tiling.tiles
        return total * (1 if knobs.channels_first else PIXELS_FIRST)

    def prim_func(self, workload: ConvWorkload, knobs: AmxKnobs, name: str) -> Any:
        """The kernel ``name``."""
        workload = collapse(workload)
        epilogue = workload.epilogue
        assert isinstance(epilogue, Epilogue)
        size = workload.y.channels * runs_of(workload).total(_CHUNK) * _CHUNK
        signature = Signature(workload.x, workload.y, epilogue, workload.residual, size, "int8")
        isa = X86(_LANES, self.vbmi)
        return build(
            name, signature, lambda operands: _emit(workload, knobs, epilogue, isa, operands)
        )


def _tiling(workload: ConvWorkload, knobs: AmxKnobs) -> Tiling:
    pixels, channels = knobs.rows * knobs.pixels, knobs.channels * _LANES
    return Tiling(workload, pixels, channels, knobs.channels_first)


def _emit(
    workload: ConvWorkload, knobs: AmxKnobs, epilogue: Epilogue, isa: X86, operands: Operands
) -> None:
    config = local(1, "uint8x64")
    acc = local(knobs.rows * knobs.pixels * knobs.channels, f"int32x{_LANES}")
    _configure(config, knobs)

    def body(tile: Tile) -> None:
        _accumulate(workload, knobs, operands, tile, acc)
        _finish(workload, knobs, epilogue, isa, operands, tile, acc)

    emit_tiles(_tiling(workload, knobs), operands, body)
    _amx("tilerelease")


def _amx(name: str, *arguments: Expr) -> None:
    I.evaluate(I.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments))


def _register(index: int) -> Expr:
    return tirx.IntImm("int8", index)


def _bytes(stride: int) -> Expr:
    return tirx.IntImm("int64", stride)


def _configure(config: Expr, knobs: AmxKnobs) -> None:
    """Palette 1; all tiles 64 bytes wide; pixels tiles have ``rows`` rows, weights 16."""
    table = np.zeros(64, np.uint8)
    table[0] = 1
    table[16:32:2] = 64
    table[48:56] = 16
    for register in _Registers(knobs.pixels, knobs.channels).of_pixels:
        table[48 + register] = knobs.rows
    I.buffer_store(config, _constant(table), [0])
    _amx("ldtilecfg", tirx.address_of(config[0]))


def _constant(values: NDArray[np.uint8]) -> Expr:
    parts = [tirx.Broadcast(tirx.IntImm("uint8", int(value)), 4) for value in values]
    return tirx.Shuffle(parts, [tirx.IntImm("int32", 4 * i) for i in range(len(values))])


@dataclass(frozen=True)
class _Registers:
    """Who is who among the eight tile registers."""

    pixels: int
    channels: int

    def acc(self, pixel: int, channel: int) -> int:
        """The accumulator of a tile of pixels and a tile of channels."""
        return pixel * self.channels + channel

    @property
    def _free(self) -> int:
        return _REGISTERS - self.pixels * self.channels

    @property
    def _inputs(self) -> int:
        return min(self.pixels, self._free - 1)

    def x(self, pixel: int) -> int:
        """The register of a tile of pixels."""
        return self.pixels * self.channels + pixel % self._inputs

    def w(self, channel: int) -> int:
        """The register of a tile of weights."""
        spare = self._free - self._inputs
        return self.pixels * self.channels + self._inputs + channel % spare

    @property
    def of_pixels(self) -> Sequence[int]:
        """The registers which have one row per pixel."""
        return range(self.pixels * self.channels + self._inputs)


def _accumulate(
    workload: ConvWorkload, knobs: AmxKnobs, operands: Operands, tile: Tile, acc: Expr
) -> None:
    channels = tile.channels // _LANES
    full, runs = _Registers(knobs.pixels, knobs.channels), runs_of(workload)
    step, total = workload.strides[1] * workload.x.pixel_stride, runs.total(_CHUNK)
    grid = [(i, j) for i in range(knobs.pixels) for j in range(channels)]
    for i, j in grid:
        bias = tirx.address_of(operands.bias[tile.channel + j * _LANES])
        _amx("tileloadd64", _register(full.acc(i, j)), bias, _bytes(0))
    with reduction(runs, _CHUNK) as (offset, chunk):
        x = I.bind(tile.x + offset)
        w = I.bind(tile.channel * (total * _CHUNK) + chunk * (_CHUNK * _LANES))
        for i, j in grid:
            if j == 0:
                at = tirx.address_of(operands.x[x + i * knobs.rows * step])
                _amx("tileloadd64", _register(full.x(i)), at, _bytes(step))
            if i == 0:
                at = tirx.address_of(operands.weights[w + j * total * _CHUNK * _LANES])
                _amx("tileloadd64", _register(full.w(j)), at, _bytes(64))
            _amx("tdpbusd", *map(_register, (full.acc(i, j), full.x(i), full.w(j))))
    for i, j in grid:
        at = tirx.address_of(acc[i * knobs.rows * channels + j])
        _amx("tilestored64", _register(full.acc(i, j)), at, _bytes(channels * 64))


def _finish(
    workload: ConvWorkload,
    knobs: AmxKnobs,
    epilogue: Epilogue,
    isa: X86,
    operands: Operands,
    tile: Tile,
    acc: Expr,
) -> None:
    """Emit the epilogue as a loop over groups of pixels which fill whole packs of vectors."""
    vectors, pixels = tile.channels // _LANES, knobs.rows * knobs.pixels
    group = {1: 4, 2: 2, 3: 4, 4: 1, 5: 4, 6: 2}[vectors]

    def strip(pixel: Expr) -> Strip:
        values = tuple(acc[pixel * vectors + j] for j in range(vectors))
        residual = None
        if workload.residual is not None:
            residual = tile.residual + pixel * workload.residual.pixel_stride
        return Strip(values, tile.channel, tile.y + pixel * workload.y.pixel_stride, residual)

    with I.serial(0, pixels // group) as i:
        finish([strip(i * group + k) for k in range(group)], isa, epilogue, operands)
    rest = range(pixels - pixels % group, pixels)
    if rest:
        finish([strip(tirx.const(k, "int32")) for k in rest], isa, epilogue, operands)


def _tile_cost(knobs: AmxKnobs, channels: int, steps: int) -> float:
    """A dot takes a cycle a row, a load half of one; weights beyond L1 load at half the speed.

    Storing an accumulator takes five cycles a row, its epilogue almost three.
    """
    far = channels * steps * _CHUNK * _LANES > _NEAR_BYTES
    dots = 1.15 * knobs.pixels * channels * max(knobs.rows, 8)
    loads = (knobs.pixels * knobs.rows + channels * (32 if far else 16)) / 2
    outputs = knobs.pixels * knobs.rows * channels
    return steps * (max(dots, loads) + 0.25 * min(dots, loads)) + outputs * 7.5 + 60
