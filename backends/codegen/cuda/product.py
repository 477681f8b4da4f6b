"""The kernel of a product of two activations on a device, and which of its tiles is taken."""

from collections.abc import Sequence
from dataclasses import dataclass

from ....ir.ops import integer
from ..layout import Strided
from ..loops import Frame, build
from ..products import finish_of, full
from ..program import Emitted
from .matrices import Matrices
from .product_dots import DotTile, dot_tiles, emit_dots
from .product_imma import ImmaTile, emit_imma, imma_tiles

_IMMA_ROWS = 8
"""Fewer rows leave most of a tile of tensor cores idle."""

Tile = ImmaTile | DotTile


@dataclass(frozen=True)
class DeviceProduct:
    """``op`` with operands a, b, bias, multiplier, residual?, table?, all present, by a tile."""

    op: integer.QMatMul
    ins: tuple[Strided, ...]
    outs: tuple[Strided, ...]
    tile: Tile

    @property
    def label(self) -> str:
        """By which instruction."""
        return "imma_product" if isinstance(self.tile, ImmaTile) else "dp4a_product"

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR."""
        return build(name, self.ins, self.outs, self._body, fine=True)

    def _body(self, frame: Frame) -> int:
        finish = finish_of(self.op, frame, self.ins, self.outs[0])
        matrices = matrices_of(self.op, self.ins, self.outs[0])
        if isinstance(self.tile, ImmaTile):
            return emit_imma(matrices, self.tile, frame, finish)
        return emit_dots(matrices, self.tile, frame, finish)


def matrices_of(op: integer.QMatMul, ins: Sequence[Strided], out: Strided) -> Matrices:
    """The views of a product."""
    return Matrices(full(ins[0], out), full(ins[1], out), out, op.a_zero_point, op.b_zero_point)


def tiles_of(matrices: Matrices, features: frozenset[str]) -> list[Tile]:
    """All tiles that a device with ``features`` has for a product; it may have none."""
    if not matrices.fit:
        return []
    if "imma" in features and matrices.rows >= _IMMA_ROWS:
        return [*imma_tiles(matrices)]
    return [*dot_tiles(matrices)] if "dp4a" in features else []


def device_product(
    op: integer.QMatMul,
    ins: tuple[Strided, ...],
    out: Strided,
    features: frozenset[str],
) -> DeviceProduct | None:
    """The kernel of the least estimated time; None for what has no template."""
    matrices = matrices_of(op, ins, out)
    tiles = tiles_of(matrices, features)
    best = min(tiles, key=lambda tile: tile.cost(matrices), default=None)
    return None if best is None else DeviceProduct(op, ins, (out,), best)
