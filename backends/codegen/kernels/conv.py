"""Convolution over views, which is also the matrix product with constant weights.

A matrix product is a convolution with a 1x1 kernel over an image of one row. This file has what
all microkernels share: the workload, the contiguous runs of the reduction, the packing of the
weights and the loop nest over tiles of pixels and channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .epilogue import Epilogue, FloatEpilogue
from .isa import Expr
from .operands import Operands
from .view import View

K = TypeVar("K", bound=Any)
PIXELS_FIRST = 1.01
"""What that order is taken to cost, before it is measured: it reads the weights again and again."""


@dataclass(frozen=True)
class ConvWorkload:
    """A convolution ``y = epilogue(conv(x, w))``; ``kernel``, ``strides``, ``dilations``: (h, w).

    ``x`` includes the halo: ``x.height >= (y.height - 1)*stride + (kernel - 1)*dilation + 1``.
    ``y`` must not overlap ``x`` or the residual.  ``visits``: what ``avx2_short`` has counted in
    the weights, for itself.  ``samples``: images of a batch that a device computes in one launch.
    """

    x: View
    y: View
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    epilogue: Epilogue | FloatEpilogue
    residual: View | None = None
    visits: tuple[int, ...] = ()
    samples: int = 1

    @property
    def pixels(self) -> int:
        """The number of output pixels."""
        return self.y.height * self.y.width


@dataclass(frozen=True)
class Runs:
    """The reduction: ``rows`` x ``taps`` runs of ``length`` contiguous elements of ``x``.

    ``row_step``, ``tap_step``: elements of ``x`` from one run to the next.
    """

    rows: int
    taps: int
    length: int
    row_step: int
    tap_step: int

    def chunks(self, size: int) -> int:
        """Chunks of ``size`` elements in one run; the last one may be padded."""
        return -(-self.length // size)

    def total(self, size: int) -> int:
        """Chunks of ``size`` elements in the whole reduction."""
        return self.rows * self.taps * self.chunks(size)


def collapse(workload: ConvWorkload) -> ConvWorkload:
    """Join all rows into one where a 1x1 convolution of stride 1 reads and writes dense rows."""
    views = [workload.x, workload.y] + ([workload.residual] if workload.residual else [])
    pointwise = workload.kernel == (1, 1) and workload.strides == (1, 1)
    same = workload.x.width == workload.y.width and workload.x.height == workload.y.height
    if not (pointwise and same and all(view.rows_join for view in views)):
        return workload
    residual = workload.residual.joined() if workload.residual else None
    return replace(workload, x=workload.x.joined(), y=workload.y.joined(), residual=residual)


def runs_of(workload: ConvWorkload) -> Runs:
    """The longest contiguous runs of the reduction."""
    x, (height, width), (down, right) = workload.x, workload.kernel, workload.dilations
    row_step = down * x.row_stride
    if width > 1 and (right != 1 or x.pixel_stride != x.channels):
        return Runs(height, width, x.channels, row_step, right * x.pixel_stride)
    length = width * x.channels
    if row_step == length:
        return Runs(1, 1, height * length, 0, 0)
    return Runs(height, 1, length, row_step, 0)


def pack_blocks(
    weights: NDArray[np.generic], workload: ConvWorkload, lanes: int, dot: int, chunk: int
) -> NDArray[np.generic]:
    """OIHW weights as ``[channels/lanes, steps, lanes, dot]``, zeros where physical only.

    Every run is padded to a multiple of ``chunk`` elements, ``steps`` counts ``dot`` of them.
    """
    runs = runs_of(workload)
    outputs, inputs, height, width = weights.shape
    full = np.zeros((workload.y.channels, height, width, workload.x.channels), weights.dtype)
    full[:outputs, :, :, :inputs] = weights.transpose(0, 2, 3, 1)
    full = full.reshape(-1, runs.rows * runs.taps, runs.length)
    tail = runs.chunks(chunk) * chunk - runs.length
    full = np.pad(full, ((0, 0), (0, 0), (0, tail)))
    blocks = full.reshape(workload.y.channels // lanes, lanes, -1, dot)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))


@dataclass(frozen=True)
class Tiling:
    """Output tiles of ``pixels`` in a row and ``channels``; the last block has ``tail`` channels.

    ``channels_first``: consecutive iterations go over the pixels of one block of channels, so
    its weights stay in the cache; otherwise over the blocks of one tile of pixels.
    """

    workload: ConvWorkload
    pixels: int
    channels: int
    channels_first: bool = True

    @property
    def tiles_per_row(self) -> int:
        """Tiles in one output row; the last one overlaps its neighbour."""
        return -(-self.workload.y.width // self.pixels)

    @property
    def tiles(self) -> int:
        """Tiles of pixels."""
        return self.workload.y.height * self.tiles_per_row

    @property
    def full_blocks(self) -> int:
        """Blocks of exactly ``channels`` output channels."""
        return self.workload.y.channels // self.channels

    @property
    def tail(self) -> int:
        """Channels of the last, smaller block, or 0."""
        return self.workload.y.channels % self.channels

    @property
    def extent(self) -> int:
        """The number of iterations of the kernel."""
        return self.tiles * (self.full_blocks + (self.tail > 0))


def in_both_orders(
    knobs: Sequence[K], workload: ConvWorkload, tiling: Callable[[ConvWorkload, K], Tiling]
) -> list[K]:
    """``knobs`` and, where there are several tiles and blocks, the same pixels first."""
    workload = collapse(workload)
    both = []
    for choice in knobs:
        found = tiling(workload, choice)
        many = found.tiles > 1 and found.extent > found.tiles
        both += [choice, replace(choice, channels_first=False)] if many else [choice]
    return both


@dataclass(frozen=True)
class Tile:
    """One iteration: element indices of its first pixel and channel.

    ``x``, ``y``, ``residual``: element index of the first pixel in the buffers (``y`` and
    ``residual`` include the channel); ``block``: index of the block of channels; ``channels``:
    their number.
    """

    x: Expr
    y: Expr
    residual: Expr
    block: Expr
    channel: Expr
    channels: int


def emit_tiles(tiling: Tiling, operands: Operands, body: Callable[[Tile], None]) -> None:
    """Emit the loop ``lo .. hi`` over the tiles; ``body`` emits one tile."""
    with I.serial(operands.lo, operands.hi) as i:
        _emit_tile(tiling, i, body)


def _emit_tile(tiling: Tiling, index: Expr, body: Callable[[Tile], None]) -> None:
    """Emit the iteration ``index``; ``body`` is called for full and for smaller blocks."""
    blocks = tiling.extent // tiling.tiles
    if tiling.channels_first:
        block, tile = _split(index, tiling.tiles, blocks)
    else:
        tile, block = _split(index, blocks, tiling.tiles)
    row, column = _split(tile, tiling.tiles_per_row, tiling.workload.y.height)
    if not (tiling.full_blocks and tiling.tail):
        channels = tiling.channels if tiling.full_blocks else tiling.tail
        body(_tile(tiling, row, column, block, channels))
        return
    with I.If(block < tiling.full_blocks):
        with I.Then():
            body(_tile(tiling, row, column, block, tiling.channels))
        with I.Else():
            last = tirx.const(tiling.full_blocks, "int32")
            body(_tile(tiling, row, column, last, tiling.tail))


def _split(index: Expr, inner: int, outer: int) -> tuple[Expr, Expr]:
    """``divmod(index, inner)`` for ``0 <= index < inner*outer``."""
    zero = tirx.const(0, "int32")
    if inner == 1:
        return index, zero
    if outer == 1:
        return zero, index
    return I.bind(tirx.truncdiv(index, inner)), I.bind(tirx.truncmod(index, inner))


def _tile(tiling: Tiling, row: Expr, column: Expr, block: Expr, channels: int) -> Tile:
    workload = tiling.workload
    (down, right), y, x = workload.strides, workload.y, workload.x
    first = column * tiling.pixels
    if y.width % tiling.pixels:
        first = I.bind(tirx.min(first, tirx.const(y.width - tiling.pixels, "int32")))
    channel = I.bind(block * tiling.channels)
    residual = None
    if workload.residual is not None:
        view = workload.residual
        residual = I.bind(row * view.row_stride + first * view.pixel_stride + channel)
    return Tile(
        x=I.bind(row * (down * x.row_stride) + first * (right * x.pixel_stride)),
        y=I.bind(row * y.row_stride + first * y.pixel_stride + channel),
        residual=residual,
        block=block,
        channel=channel,
        channels=channels,
    )


@contextmanager
def reduction(runs: Runs, chunk: int) -> Iterator[tuple[Expr, Expr]]:
    """Emit the loops over the chunks of all runs.

    Yields (element of ``x`` relative to the tile's, index of the chunk in the weights).
    """
    chunks = runs.chunks(chunk)
    with I.serial(0, runs.rows) as row, I.serial(0, runs.taps) as tap, I.serial(0, chunks) as i:
        x = row * runs.row_step + tap * runs.tap_step + i * chunk
        yield x, (row * runs.taps + tap) * chunks + i
