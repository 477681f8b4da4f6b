"""The frame of a kernel over tiles of pixels and channels: sums of each, then their epilogue."""

from collections.abc import Callable, Sequence
from typing import Any

from .conv import ConvWorkload, Tile, Tiling, emit_tiles
from .finish import Strip, finish
from .isa import Expr, Isa
from .operands import Operands, Signature, build

Sums = Callable[[Operands, Tile], Sequence[Strip]]
"""Emits the sums of one tile; returns its strips, one per pixel."""


def tiled(name: str, tiling: Tiling, isa: Isa, weights: tuple[int, str], sums: Sums) -> Any:
    """The kernel ``name`` of the workload of ``tiling``; ``weights``: elements and their type."""
    workload = tiling.workload
    signature = Signature(workload.x, workload.y, workload.epilogue, workload.residual, *weights)

    def body(operands: Operands) -> None:
        def tile_body(tile: Tile) -> None:
            finish(sums(operands, tile), isa, workload.epilogue, operands)

        emit_tiles(tiling, operands, tile_body)

    return build(name, signature, body)


def strip_of(workload: ConvWorkload, tile: Tile, pixel: int, vectors: Sequence[Expr]) -> Strip:
    """The sums of one pixel of a tile, and where their results go."""
    residual = None
    if workload.residual is not None:
        residual = tile.residual + pixel * workload.residual.pixel_stride
    y = tile.y + pixel * workload.y.pixel_stride
    return Strip(tuple(vectors), tile.channel, y, residual)
