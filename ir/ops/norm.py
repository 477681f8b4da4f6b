"""Normalisations and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.action import Action
from ..types import Array, TensorType
from .base import Op, Operands, given, normal_axis, operand, optional

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


class Norm(Op):
    """The result has the type of the first operand."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if (axis := getattr(self, "axis", None)) is not None:
            normal_axis(axis, x.rank)
        return [TensorType(x.dtype, x.shape)]

    def statistic(self, rank: int) -> tuple[int, ...]:
        """The axes that are normalised together."""
        return (normal_axis(int(getattr(self, "axis", -1)), rank),)

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        relations.broadcast(x, node.output)
        for k in self.statistic(x.type.rank):
            why = f"{self.name} statistic"
            relations.pin(relations.axis(x, k), why, ~Action.PERMUTE)
            relations.pin(relations.axis(node.output, k), why, Action.ROTATE)
        for weight in node.operands[1:]:
            relations.broadcast(weight, node.output)
        self.absorb(relations, node)

    def absorb(self, relations: Relations, node: Node) -> None:
        """State that scale and bias, operands 1 and 2, take what happens to the result."""
        y = relations.axes(node.output)
        weights = [relations.axes(v) for v in node.operands[1:]]
        relations.together(weights, y, Action.SCALE)
        relations.together(weights[1:], y, Action.SHIFT)

    def affine(self, relations: Relations, node: Node) -> None:
        """The same of weights whose only axis is that of the channels, axis 1."""
        after = relations.axis(node.output, 1)
        scale, bias = (relations.axis(v, 0) for v in node.operands[1:3])
        relations.same(scale, after, Action.COUPLED | Action.SCALE)
        relations.same(bias, after, Action.COUPLED | Action.SCALE | Action.SHIFT)


@dataclass(frozen=True)
class BatchNormalization(Norm):
    """``(x - mean) / sqrt(var + epsilon) * scale + bias`` per channel (axis 1), inference only.

    Operands: x, scale, bias, mean, var.
    """

    epsilon: float = 1e-5

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        channels = x.shape[1] if x.rank > 1 else 1
        for i in range(1, 5):
            if (t := operand(ins, i).type).shape != (channels,):
                raise ValueError(f"{t} is not one number per channel of {x}")
        return super().infer(ins)

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        scale, bias, mean, var = (
            given(ins, i).reshape(-1, *(1,) * (x.ndim - 2)) for i in range(1, 5)
        )
        factor = np.divide(scale, np.sqrt(np.add(var, x.dtype.type(self.epsilon))))
        return [np.add(np.multiply(np.subtract(x, mean), factor), bias)]

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        relations.broadcast(x, y)
        before, after = relations.axis(x, 1), relations.axis(y, 1)
        scale, bias, mean, variance = (relations.axis(v, 0) for v in node.operands[1:])
        for weight in (scale, bias, mean, variance):
            relations.same(weight, after)
        relations.same(mean, before, Action.SCALE | Action.SHIFT)
        relations.same(bias, after, Action.SCALE | Action.SHIFT)
        relations.balance(Action.SCALE, (after, -1), (scale, 1), (before, 1))


@dataclass(frozen=True)
class InstanceNormalization(Norm):
    """Normalise each channel of each sample; operands: x[N,C,*S], scale[C], bias[C]."""

    epsilon: float = 1e-5

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        shape = (-1, *(1,) * (x.ndim - 2))
        y = _standard(x, tuple(range(2, x.ndim)), self.epsilon)
        return [np.add(np.multiply(y, given(ins, 1).reshape(shape)), given(ins, 2).reshape(shape))]

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        relations.broadcast(x, node.output)
        for k in range(2, x.type.rank):
            relations.pin(relations.axis(x, k), "InstanceNormalization statistic", ~Action.PERMUTE)
        self.affine(relations, node)


@dataclass(frozen=True)
class GroupNormalization(Norm):
    """Normalise groups of channels; operands: x[N,C,*S], scale[C], bias[C] (opset 21)."""

    num_groups: int = 1
    epsilon: float = 1e-5

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        shape = (-1, *(1,) * (x.ndim - 2))
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        y = _standard(grouped, (2,), self.epsilon).reshape(x.shape)
        return [np.add(np.multiply(y, given(ins, 1).reshape(shape)), given(ins, 2).reshape(shape))]

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        channels, size = relations.axis(x, 1), x.shape[1] // self.num_groups
        relations.broadcast(x, node.output)
        inner = relations.virtual("group", size)
        relations.product([channels], [relations.virtual("groups", self.num_groups), inner])
        for axis in (inner, *relations.axes(x)[2:]):
            relations.pin(axis, "GroupNormalization statistic", ~Action.PERMUTE)
        self.affine(relations, node)


@dataclass(frozen=True)
class LayerNormalization(Norm):
    """Normalise over the axes from ``axis`` on; operands: x, scale, bias?."""

    axis: int = -1
    epsilon: float = 1e-5

    def statistic(self, rank: int) -> tuple[int, ...]:
        """All axes from ``axis`` on."""
        return tuple(range(normal_axis(self.axis, rank), rank))

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, bias = given(ins), optional(ins, 2)
        axes = self.statistic(x.ndim)
        y = np.multiply(_standard(x, axes, self.epsilon), given(ins, 1))
        return [y if bias is None else np.add(y, bias)]


@dataclass(frozen=True)
class RMSNormalization(Norm):
    """``x / sqrt(mean(x**2) + epsilon) * scale`` over the axes from ``axis`` on."""

    axis: int = -1
    epsilon: float = 1e-5

    def statistic(self, rank: int) -> tuple[int, ...]:
        """All axes from ``axis`` on."""
        return tuple(range(normal_axis(self.axis, rank), rank))

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        axes = self.statistic(x.ndim)
        power = np.mean(np.square(x), axes, keepdims=True, dtype=x.dtype)
        root = np.sqrt(np.add(power, x.dtype.type(self.epsilon)))
        return [np.multiply(np.divide(x, root), given(ins, 1))]

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        relations.broadcast(x, node.output)
        relations.broadcast(node.operands[1], node.output)
        self.absorb(relations, node)
        axes = self.statistic(x.type.rank)
        turns = len(axes) == 1 and _uniform(node.operands[1].data)
        for k in axes:
            before = relations.axis(x, k)
            relations.contract(node, 0, before)
            relations.pin(before, "RMSNormalization statistic", Action.SCALE | Action.SHIFT)
            after = relations.axis(node.output, k)
            if turns:
                relations.same(before, after, Action.ROTATE)
            else:
                for axis in (before, after):
                    relations.pin(axis, "RMSNormalization weight is not folded", Action.ROTATE)


@dataclass(frozen=True)
class LRN(Norm):
    """Local response: ``x / (bias + alpha / size * sum of squares of size channels) ** beta``."""

    size: int = 1
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        before, after = (self.size - 1) // 2, self.size // 2
        squares = np.pad(np.square(x), ((0, 0), (before, after), *((0, 0),) * (x.ndim - 2)))
        total = np.add.reduce([squares[:, i : i + x.shape[1]] for i in range(self.size)])
        divisor = np.power(np.add(self.bias, np.multiply(self.alpha / self.size, total)), self.beta)
        return [np.divide(x, divisor).astype(x.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        relations.broadcast(node.operands[0], node.output)
        relations.pin(relations.axis(node.output, 1), "LRN looks at neighbours")


@dataclass(frozen=True)
class LpNormalization(Norm):
    """``x / norm_p(x)`` along ``axis`` (p = 1 or 2)."""

    axis: int = -1
    p: int = 2

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        norm = np.linalg.norm(x, self.p, self.axis, keepdims=True)
        return [np.divide(x, np.where(np.equal(norm, 0), 1, norm)).astype(x.dtype)]

    def couple(self, relations: Relations, node: Node) -> None:
        x = node.operands[0]
        relations.broadcast(x, node.output)
        relations.contract(node, 0, relations.axis(x, self.axis))


@dataclass(frozen=True)
class Softmax(Norm):
    """``exp(x) / sum(exp(x))`` along ``axis``, stable."""

    axis: int = -1

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        e = np.exp(np.subtract(x, x.max(self.axis, keepdims=True)))
        return [np.divide(e, e.sum(self.axis, keepdims=True))]


@dataclass(frozen=True)
class LogSoftmax(Norm):
    """``log(softmax(x))`` along ``axis``, stable."""

    axis: int = -1

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        y = np.subtract(x, x.max(self.axis, keepdims=True))
        return [np.subtract(y, np.log(np.exp(y).sum(self.axis, keepdims=True)))]


@dataclass(frozen=True)
class Hardmax(Norm):
    """1 at the first greatest element along ``axis``, else 0."""

    axis: int = -1

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        y = np.zeros_like(x)
        best = np.expand_dims(np.argmax(x, self.axis), self.axis)
        np.put_along_axis(y, best, x.dtype.type(1), self.axis)
        return [y]


def _uniform(weight: Array | None) -> bool:
    """Whether all elements are equal, up to the rounding of a product."""
    if weight is None or not weight.size:
        return False
    spread = float(weight.max()) - float(weight.min())
    return spread <= 4 * float(np.finfo(weight.dtype).eps) * float(np.abs(weight).max())


def _standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Zero mean and unit variance over ``axes``."""
    centred = np.subtract(x, np.mean(x, axes, keepdims=True, dtype=x.dtype))
    variance = np.mean(np.square(centred), axes, keepdims=True, dtype=x.dtype)
    return np.asarray(np.divide(centred, np.sqrt(np.add(variance, x.dtype.type(epsilon)))))
