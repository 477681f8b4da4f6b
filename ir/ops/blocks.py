"""Channels to blocks of pixels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..types import Array, TensorType
from .base import Op, Operands, given, operand
from .dims import known, product

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


@dataclass(frozen=True)
class DepthToSpace(Op):
    """Channels to blocks of pixels; ``mode`` ``DCR`` or ``CRD``."""

    blocksize: int = 1
    mode: str = "DCR"

    def infer(self, ins: Operands) -> list[TensorType]:
        x, b = operand(ins, 0).type, self.blocksize
        if x.rank != 4 or known(x.shape[1]) % (b * b):
            raise ValueError(f"{x} has no {b * b} channels per block")
        n, c, h, w = x.shape
        return [TensorType(x.dtype, (n, known(c) // (b * b), product((b, h)), product((b, w))))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, b = given(ins), self.blocksize
        n, c, h, w = x.shape
        if self.mode == "DCR":
            y = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return [y.reshape(n, c // (b * b), h * b, w * b)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.blocks(node.operands[0], node.output, self.blocksize, first=self.mode == "DCR")


@dataclass(frozen=True)
class SpaceToDepth(Op):
    """Blocks of pixels to channels; ``mode`` ``DCR`` or ``CRD``."""

    blocksize: int = 1
    mode: str = "DCR"

    def infer(self, ins: Operands) -> list[TensorType]:
        x, b = operand(ins, 0).type, self.blocksize
        if x.rank != 4 or known(x.shape[2]) % b or known(x.shape[3]) % b:
            raise ValueError(f"{x} is not made of blocks of {b} pixels")
        n, c, h, w = x.shape
        return [TensorType(x.dtype, (n, product((b * b, c)), known(h) // b, known(w) // b))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, b = given(ins), self.blocksize
        n, c, h, w = x.shape
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        y = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
        return [y.reshape(n, c * b * b, h // b, w // b)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.blocks(node.output, node.operands[0], self.blocksize, first=self.mode == "DCR")
