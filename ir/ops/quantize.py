"""Quantize and dequantize: the explicit boundary between reals and codes in a float graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..types import Array, PerAxis, PerTensor, Quantization, TensorType
from .base import Op, Operands, given, normal_axis, operand

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node

RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class Quantize(Op):
    """``clip(rint(x / scale) + zero_point)`` (ONNX ``QuantizeLinear``).

    ``scale`` and ``zero_point`` have one entry (per tensor) or one per index of ``axis``.
    ``low`` and ``high`` narrow the codes' range (int4 in an int8, a symmetric range).
    """

    scale: tuple[float, ...] = (1.0,)
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None
    dtype: str = "uint8"
    low: int | None = None
    high: int | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if not x.is_float:
            raise ValueError(f"quantizes reals, not {x}")
        _check_axis(x, self.axis, len(self.scale))
        return [x.with_dtype(self.dtype, quantization(self.scale, self.zero_point, self.axis))]

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest code."""
        low, high = RANGES[self.dtype]
        return (low if self.low is None else self.low, high if self.high is None else self.high)

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        scale, zero = expand(self.scale, self.zero_point, self.axis, x.ndim)
        q = np.rint(x.astype(np.float32) / scale) + zero
        return [np.clip(q, *self.bounds).astype(self.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.elementwise(node)
        if self.axis is not None:
            relations.pin(relations.axis(node.output, self.axis), "scales of a quantized axis")


@dataclass(frozen=True)
class Dequantize(Op):
    """``(q - zero_point) * scale`` in float32 (ONNX ``DequantizeLinear``), cast to ``dtype``."""

    scale: tuple[float, ...] = (1.0,)
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None
    dtype: str = "float32"

    def infer(self, ins: Operands) -> list[TensorType]:
        q = operand(ins, 0).type
        if q.is_float:
            raise ValueError(f"dequantizes codes, not {q}")
        _check_axis(q, self.axis, len(self.scale))
        return [TensorType(self.dtype, q.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        q = given(ins)
        scale, zero = expand(self.scale, self.zero_point, self.axis, q.ndim)
        return [((q.astype(np.int32) - zero).astype(np.float32) * scale).astype(self.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.elementwise(node)
        if self.axis is not None:
            relations.pin(relations.axis(node.output, self.axis), "scales of a quantized axis")


@dataclass(frozen=True)
class DynamicQuantize(Op):
    """Quantize by the range at run time over all axes from ``axis`` on: a scale per leading index.

    ``scale = (max(x, 0) - min(x, 0)) / 255`` in float32 (1 where that is 0),
    ``zero_point = clip(rint(-min / scale))``; results: codes uint8, scale float32 and zero point
    uint8, both with the axes from ``axis`` on reduced to 1.
    """

    axis: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        lead = (*x.shape[: normal_axis(self.axis, x.rank)],)
        small = (*lead, *(1 for _ in x.shape[len(lead) :]))
        return [x.with_dtype("uint8"), TensorType("float32", small), TensorType("uint8", small)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins).astype(np.float32)
        axes = tuple(range(normal_axis(self.axis, x.ndim), x.ndim))
        low = np.minimum(x.min(axes, keepdims=True), np.float32(0))
        high = np.maximum(x.max(axes, keepdims=True), np.float32(0))
        scale = (high - low) / np.float32(255)
        scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
        zero = np.clip(np.rint(-low / scale), 0, 255)
        q = np.clip(np.rint(x / scale) + zero, 0, 255)
        return [q.astype(np.uint8), scale, zero.astype(np.uint8)]


@dataclass(frozen=True)
class DynamicDequantize(Op):
    """``(q - zero_point) * scale``, both known only at run time: operands q, scale, zero point."""

    def infer(self, ins: Operands) -> list[TensorType]:
        q, scale = operand(ins, 0).type, operand(ins, 1).type
        operand(ins, 2)
        if q.rank != scale.rank:
            raise ValueError(f"scale {scale} does not broadcast over {q}")
        return [TensorType("float32", q.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        exact = given(ins).astype(np.int32) - given(ins, 2).astype(np.int32)
        return [exact.astype(np.float32) * given(ins, 1)]


def quantization(
    scale: tuple[float, ...], zero_point: tuple[int, ...], axis: int | None
) -> Quantization:
    """The quantization that a type carries."""
    return Quantization(scale, zero_point, PerTensor() if axis is None else PerAxis(axis))


def expand(
    scale: tuple[float, ...], zero_point: tuple[int, ...], axis: int | None, rank: int
) -> tuple[Array, Array]:
    """Scale (float32) and zero point (int32), shaped to broadcast along ``axis``."""
    shape = [1] * rank
    if axis is not None:
        shape[normal_axis(axis, rank)] = -1
    return (
        np.asarray(scale, np.float32).reshape(shape if axis is not None else ()),
        np.asarray(zero_point, np.int32).reshape(shape if axis is not None else ()),
    )


def _check_axis(t: TensorType, axis: int | None, count: int) -> None:
    if axis is None:
        if count != 1:
            raise ValueError(f"{count} scales but no axis")
    elif t.shape[normal_axis(axis, t.rank)] != count:
        raise ValueError(f"{count} scales for axis {axis} of {t}")
