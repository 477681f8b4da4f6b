"""Convolutions and products of matrices (ONNX semantics, explicit padding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.action import Action
from ..types import Array, Dim, TensorType
from .base import (
    Op,
    Operands,
    broadcast,
    ends,
    given,
    operand,
    optional,
    patches,
    tap_of,
    window_output,
)
from .dims import known, plus, product, window

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


@dataclass(frozen=True)
class Conv(Op):
    """Convolution ``x[N,C,*S], w[O,C/group,*K], b[O]? -> [N,O,*S']``.

    ``pads``: begins of all spatial axes, then ends.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x, w = operand(ins, 0).type, operand(ins, 1).type
        kernel, n = w.static[2:], w.rank - 2
        if x.rank != w.rank or n < 1 or len(self.strides) != n or len(self.pads) != 2 * n:
            raise ValueError(f"input {x} and weights {w} do not fit {n} spatial axes")
        if known(x.shape[1]) != w.static[1] * self.group or w.static[0] % self.group:
            raise ValueError(f"input {x} does not match weights {w} in {self.group} groups")
        if len(ins) > 2 and ins[2] is not None and operand(ins, 2).type.shape != (w.shape[0],):
            raise ValueError(f"bias {operand(ins, 2).type} does not match weights {w}")
        space = (
            window(
                x.shape[i + 2], kernel[i], self.strides[i], ends(self.pads, i), self.dilations[i]
            )
            for i in range(n)
        )
        return [TensorType(x.dtype, (x.shape[0], w.shape[0], *space))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, w, b = given(ins), given(ins, 1), optional(ins, 2)
        n = w.ndim - 2
        sizes = [
            window_output(
                x.shape[i + 2],
                w.shape[i + 2],
                self.strides[i],
                ends(self.pads, i),
                self.dilations[i],
            )
            for i in range(n)
        ]
        padded = np.pad(x, ((0, 0), (0, 0), *(ends(self.pads, i) for i in range(n))))
        if self.group == x.shape[1] == w.shape[0]:
            y = self._depthwise(padded, w, sizes)
        else:
            y = self._grouped(padded, w, sizes)
        return [y if b is None else np.add(y, b.reshape(-1, *(1,) * n))]

    def _depthwise(self, x: Array, w: Array, sizes: Sequence[int]) -> Array:
        y = np.zeros((*x.shape[:2], *sizes), x.dtype)
        kernels = np.moveaxis(w[:, 0], 0, -1)
        for tap in combinations(*map(range, w.shape[2:])):
            part = x[tap_of(tap, sizes, self.strides, self.dilations)]
            y += np.multiply(part, kernels[tap].reshape(-1, *(1,) * len(tap)))
        return y

    def _grouped(self, x: Array, w: Array, sizes: Sequence[int]) -> Array:
        n, g = len(sizes), self.group
        view = patches(x, w.shape[2:], self.strides, self.dilations, sizes)
        order = (0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))
        columns = view.transpose(order).reshape(x.shape[0], g, w[0].size, int(np.prod(sizes)))
        weights = w.reshape(1, g, w.shape[0] // g, -1)
        return np.asarray(np.matmul(weights, columns)).reshape(x.shape[0], w.shape[0], *sizes)

    def couple(self, relations: Relations, node: Node) -> None:
        x, w, y = node.operands[0], node.operands[1], node.output
        c, o = relations.axis(x, 1), relations.axis(y, 1)
        w_out, w_in = relations.axis(w, 0), relations.axis(w, 1)
        if self.group == 1:
            relations.same(w_out, o, Action.COUPLED | Action.LINEAR)
            relations.dual(c, w_in)
            relations.contract(node, 0, c)
        else:
            relations.same(w_out, o)
            self._couple_groups(relations, node)
        numbers = Action.LINEAR if self.group == 1 else Action.SCALE
        for bias in node.operands[2:]:
            relations.same(relations.axis(bias, 0), o, Action.COUPLED | Action.SHIFT | numbers)
        relations.spatial(x, w, y)
        if len(node.operands) < 3:
            relations.free(Action.SHIFT, o)  # it can be given a bias
        if any(self.pads):
            relations.pin(c, "zero padding", Action.SHIFT)
        elif all(v.is_constant for v in node.operands[1:]):
            relations.free(Action.SHIFT, c)  # the bias makes up for it

    def _couple_groups(self, relations: Relations, node: Node) -> None:
        """Groups go together; weights that nothing else reads take any factors of both sides."""
        x, w, y = node.operands[0], node.operands[1], node.output
        c, o = relations.axis(x, 1), relations.axis(y, 1)
        outputs, inputs = w.shape[:2]
        per = outputs // self.group
        if inputs == 1:
            relations.product([c, relations.virtual("multiplier", per)], [o])
        else:
            groups = relations.virtual("groups", self.group)
            relations.product([c], [groups, relations.axis(w, 1)])
            relations.product([o], [groups, relations.virtual("outputs", per)])
            relations.contract(node, 0, c)
        if w.is_constant and len(w.uses) == 1:
            made, read = (relations.virtual(n, outputs * inputs) for n in ("made", "read"))
            first = np.arange(outputs)[:, None] // per * inputs
            relations.index(o, np.repeat(np.arange(outputs), inputs), made, Action.SCALE)
            relations.index(c, (first + np.arange(inputs)).ravel(), read, Action.SCALE)
            elements = relations.elements(w)
            relations.balance(Action.SCALE, (made, -1), (read, 1), (elements, 1))


@dataclass(frozen=True)
class ConvTranspose(Op):
    """Transposed convolution ``x[N,C,*S], w[C,O/group,*K], b[O]? -> [N,O,*S']``.

    ``S' = (S - 1) * stride + output_padding + dilation * (K - 1) + 1 - pads``.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    output_padding: tuple[int, ...] = (0, 0)
    group: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x, w = operand(ins, 0).type, operand(ins, 1).type
        n = w.rank - 2
        if x.rank != w.rank or n < 1 or len(self.strides) != n or len(self.pads) != 2 * n:
            raise ValueError(f"input {x} and weights {w} do not fit {n} spatial axes")
        if known(x.shape[1]) != w.static[0] or w.static[0] % self.group:
            raise ValueError(f"input {x} does not match weights {w} in {self.group} groups")
        space = (self._size(x.shape[i + 2], w.static[i + 2], i) for i in range(n))
        return [TensorType(x.dtype, (x.shape[0], w.static[1] * self.group, *space))]

    def _size(self, size: Dim, kernel: int, i: int) -> Dim:
        rest = (
            self.output_padding[i] + self.dilations[i] * (kernel - 1) + 1 - sum(ends(self.pads, i))
        )
        return plus(product((self.strides[i], size)), rest - self.strides[i])

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, w, b = given(ins), given(ins, 1), optional(ins, 2)
        n, g, batch = w.ndim - 2, self.group, x.shape[0]
        space, kernel, outputs = x.shape[2:], w.shape[2:], w.shape[1] * g
        sizes = [known(self._size(space[i], kernel[i], i)) for i in range(n)]
        weights = w.reshape(1, g, w.shape[0] // g, -1).swapaxes(2, 3)
        columns = np.matmul(weights, x.reshape(batch, g, w.shape[0] // g, -1))
        columns = columns.reshape(batch, outputs, *kernel, *space)
        whole = [
            max(
                sizes[i] + sum(ends(self.pads, i)),
                (space[i] - 1) * self.strides[i] + self.dilations[i] * (kernel[i] - 1) + 1,
            )
            for i in range(n)
        ]
        y = np.zeros((batch, outputs, *whole), x.dtype)
        for tap in combinations(*map(range, kernel)):
            y[tap_of(tap, space, self.strides, self.dilations)] += columns[
                (slice(None), slice(None), *tap)
            ]
        inner = tuple(slice(self.pads[i], self.pads[i] + sizes[i]) for i in range(n))
        y = y[(slice(None), slice(None), *inner)]
        return [y if b is None else np.add(y, b.reshape(-1, *(1,) * n))]

    def couple(self, relations: Relations, node: Node) -> None:
        x, w, y = node.operands[0], node.operands[1], node.output
        c, o = relations.axis(x, 1), relations.axis(y, 1)
        w_in, w_out = relations.axis(w, 0), relations.axis(w, 1)
        relations.dual(c, w_in)
        numbers = Action.LINEAR if self.group == 1 else Action.SCALE
        if self.group == 1:
            relations.same(w_out, o, Action.COUPLED | numbers)
        else:
            groups = relations.virtual("groups", self.group)
            relations.pin(groups, "groups of a transposed convolution", Action.SCALE)
            relations.product([c], [groups, relations.virtual("inputs", w.shape[0] // self.group)])
            relations.product([o], [groups, w_out], Action.COUPLED | numbers)
        relations.contract(node, 0, c)
        for bias in node.operands[2:]:
            relations.same(relations.axis(bias, 0), o, Action.COUPLED | Action.SHIFT | numbers)
        if len(node.operands) < 3:
            relations.free(Action.SHIFT, o)  # it can be given a bias
        relations.spatial(x, w, y)


class MatMul(Op):
    """``a[..., M, K] @ b[..., K, N]`` with numpy's rules (one-dimensional operands included)."""

    def infer(self, ins: Operands) -> list[TensorType]:
        a, b = operand(ins, 0).type, operand(ins, 1).type
        if not a.rank or not b.rank or a.dtype != b.dtype:
            raise ValueError(f"{a} and {b} do not multiply")
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if left[-1] != right[-2] and isinstance(left[-1], int) and isinstance(right[-2], int):
            raise ValueError(f"{a} and {b} do not multiply")
        lead = broadcast(left[:-2], right[:-2])
        rows = left[-2:-1] if a.rank > 1 else ()
        columns = right[-1:] if b.rank > 1 else ()
        return [TensorType(a.dtype, (*lead, *rows, *columns))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        return [np.asarray(np.matmul(given(ins), given(ins, 1)))]

    def couple(self, relations: Relations, node: Node) -> None:
        left, right = (relations.axes(v) for v in node.operands)
        out = relations.axes(node.output)
        relations.dual(left[-1], right[max(len(right) - 2, 0)])
        relations.contract(node, 0, left[-1])
        if len(left) > 1 and len(right) == 2 and node.operands[1].is_constant:
            relations.free(Action.SHIFT, left[-1], out[-1])  # it can be given a bias
        if len(right) > 1:
            relations.same(right[-1], out[-1], Action.COUPLED | Action.LINEAR)
            out = out[:-1]
        if len(left) > 1:
            relations.same(left[-2], out[-1], Action.COUPLED | Action.LINEAR)
            out = out[:-1]
        relations.aligned(left[:-2], out)
        relations.aligned(right[:-2], out)
        relations.multiplied((left[:-2], right[:-2]), out, 1, 1)


@dataclass(frozen=True)
class Gemm(Op):
    """``alpha * A' @ B' + beta * c``; ``A'``, ``B'`` are matrices, transposed if asked.

    ``A`` may have leading axes where it is not transposed, which ONNX's may not: a layer of a
    sequence and its bias are one op.
    """

    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        a, b = operand(ins, 0).type, operand(ins, 1).type
        if a.rank < 2 or (self.trans_a and a.rank > 2) or b.rank != 2 or a.dtype != b.dtype:
            raise ValueError(f"{a} and {b} are not two matrices")
        *rows, k = a.shape[:: -1 if self.trans_a else 1]
        k2, n = b.shape[:: -1 if self.trans_b else 1]
        if k != k2 and isinstance(k, int) and isinstance(k2, int):
            raise ValueError(f"{a} and {b} do not multiply")
        if len(ins) > 2 and ins[2] is not None:
            c = operand(ins, 2).type
            if broadcast((*rows, n), c.shape) != (*rows, n):
                raise ValueError(f"{c} does not broadcast to {(*rows, n)}")
        return [TensorType(a.dtype, (*rows, n))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a, b, c = given(ins), given(ins, 1), optional(ins, 2)
        y = np.matmul(a.T if self.trans_a else a, b.T if self.trans_b else b)
        if self.alpha != 1:
            y = np.multiply(y, a.dtype.type(self.alpha))
        if c is None:
            return [y]
        return [np.add(y, c if self.beta == 1 else np.multiply(c, a.dtype.type(self.beta)))]

    def couple(self, relations: Relations, node: Node) -> None:
        a, b = (relations.axes(v) for v in node.operands[:2])
        *rows, k = a[:: -1 if self.trans_a else 1]
        k2, n = b[:: -1 if self.trans_b else 1]
        out = relations.axes(node.output)
        relations.dual(k, k2)
        relations.contract(node, 0, k)
        relations.aligned([*rows, n], out)
        biases = [relations.axes(v) for v in node.operands[2:]]
        for bias in biases:
            relations.aligned(bias, out)
        relations.together([[*rows, n], *biases], out, Action.LINEAR)
        if all(v.is_constant for v in node.operands[1:]) and self.beta:
            relations.free(Action.SHIFT, k)  # the bias makes up for it
        if not biases:
            relations.free(Action.SHIFT, out[-1])  # it can be given a bias
        elif self.beta == 1:
            relations.together(biases, out, Action.SHIFT)
