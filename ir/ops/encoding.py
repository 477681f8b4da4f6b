"""Encode and decode: the boundary between reals and the packed bytes of a number format.

What quantize and dequantize are for codes of 8 bits and more, these are for the formats of
:mod:`qc.ir.formats`: blocks along one axis, several elements in a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..formats import Format, parse
from ..types import Array, Dim, TensorType, numpy_dtype
from .base import Op, Operands, given, normal_axis, operand
from .dims import known

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node

PART = 1 << 20
"""Elements that are encoded or decoded together."""


@dataclass(frozen=True)
class Encode(Op):
    """Reals to packed bytes of ``format``, block by block along ``axis``.

    Result: uint8, as long along ``axis`` as its blocks take bytes.
    """

    format: str = "mxfp4"
    axis: int = -1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if not x.is_float:
            raise ValueError(f"encodes reals, not {x}")
        length = known(x.shape[normal_axis(self.axis, x.rank)])
        size = parse(self.format).bytes(length)
        return [TensorType("uint8", _along(x.shape, self.axis, size))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        f, x = parse(self.format), given(ins)

        def packed(part: Array) -> Array:
            return np.moveaxis(f.pack(f.encode(part, self.axis)), -1, self.axis)

        length = f.bytes(x.shape[self.axis])
        return [in_parts(packed, x, self.axis, length, "uint8")]

    def couple(self, relations: Relations, node: Node) -> None:
        _couple(relations, node, self.axis, self.format)


@dataclass(frozen=True)
class Decode(Op):
    """Packed bytes of ``format`` to the ``length`` reals along ``axis`` that they stand for."""

    format: str = "mxfp4"
    axis: int = -1
    length: int = 1
    dtype: str = "float32"

    def infer(self, ins: Operands) -> list[TensorType]:
        q = operand(ins, 0).type
        size = parse(self.format).bytes(self.length)
        if q.dtype != "uint8" or q.shape[normal_axis(self.axis, q.rank)] != size:
            raise ValueError(f"{self.length} elements of {self.format} are {size} bytes, not {q}")
        return [TensorType(self.dtype, _along(q.shape, self.axis, self.length))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        f: Format = parse(self.format)

        def real(part: Array) -> Array:
            return f.decode(f.unpack(np.moveaxis(part, self.axis, -1), self.length), self.axis)

        return [in_parts(real, given(ins), self.axis, self.length, self.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        _couple(relations, node, self.axis, self.format)


def in_parts(
    function: Callable[[Array], Array], x: Array, axis: int, length: int, dtype: str
) -> Array:
    """``function`` of ``x``, whose ``axis`` becomes ``length`` long, a few ``PART`` at a time.

    What it computes on the way takes many times the memory of its operand.
    """
    shape = [*x.shape]
    shape[axis] = length
    out = np.empty(shape, numpy_dtype(dtype))
    others = [k for k in range(x.ndim) if k != axis % x.ndim]
    if not others or x.size <= PART:
        out[...] = function(x)
        return out
    along = max(others, key=lambda k: x.shape[k])
    step = max(1, PART * x.shape[along] // x.size)
    for start in range(0, x.shape[along], step):
        part = (slice(None),) * along + (slice(start, start + step),)
        out[part] = function(x[part])
    return out


def _along(shape: Sequence[Dim], axis: int, length: int) -> tuple[Dim, ...]:
    out = list(shape)
    out[normal_axis(axis, len(out))] = length
    return tuple(out)


def _couple(relations: Relations, node: Node, axis: int, name: str) -> None:
    """The axis of the blocks stays as it is: a byte holds parts of several channels."""
    pairs = zip(relations.axes(node.operands[0]), relations.axes(node.output), strict=True)
    for k, (a, b) in enumerate(pairs):
        if k == normal_axis(axis, node.output.type.rank):
            relations.pin(a, f"blocks of {name}")
            relations.pin(b, f"blocks of {name}")
        else:
            relations.same(a, b)
