"""Convolutions, products of matrices and pooling (ONNX semantics, explicit padding)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product as combinations

import numpy as np

from ..types import Array, Dim, TensorType
from .base import Op, Operands, broadcast, given, operand, optional, patches, window_output
from .dims import known, plus, product, window


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
                x.shape[i + 2], kernel[i], self.strides[i], _ends(self.pads, i), self.dilations[i]
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
                _ends(self.pads, i),
                self.dilations[i],
            )
            for i in range(n)
        ]
        padded = np.pad(x, ((0, 0), (0, 0), *(_ends(self.pads, i) for i in range(n))))
        if self.group == x.shape[1] == w.shape[0]:
            y = self._depthwise(padded, w, sizes)
        else:
            y = self._grouped(padded, w, sizes)
        return [y if b is None else np.add(y, b.reshape(-1, *(1,) * n))]

    def _depthwise(self, x: Array, w: Array, sizes: Sequence[int]) -> Array:
        y = np.zeros((*x.shape[:2], *sizes), x.dtype)
        kernels = np.moveaxis(w[:, 0], 0, -1)
        for tap in combinations(*map(range, w.shape[2:])):
            part = x[_tap(tap, sizes, self.strides, self.dilations)]
            y += np.multiply(part, kernels[tap].reshape(-1, *(1,) * len(tap)))
        return y

    def _grouped(self, x: Array, w: Array, sizes: Sequence[int]) -> Array:
        n, g = len(sizes), self.group
        view = patches(x, w.shape[2:], self.strides, self.dilations, sizes)
        order = (0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))
        columns = view.transpose(order).reshape(x.shape[0], g, w[0].size, int(np.prod(sizes)))
        weights = w.reshape(1, g, w.shape[0] // g, -1)
        return np.asarray(np.matmul(weights, columns)).reshape(x.shape[0], w.shape[0], *sizes)


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
            self.output_padding[i] + self.dilations[i] * (kernel - 1) + 1 - sum(_ends(self.pads, i))
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
                sizes[i] + sum(_ends(self.pads, i)),
                (space[i] - 1) * self.strides[i] + self.dilations[i] * (kernel[i] - 1) + 1,
            )
            for i in range(n)
        ]
        y = np.zeros((batch, outputs, *whole), x.dtype)
        for tap in combinations(*map(range, kernel)):
            y[_tap(tap, space, self.strides, self.dilations)] += columns[
                (slice(None), slice(None), *tap)
            ]
        inner = tuple(slice(self.pads[i], self.pads[i] + sizes[i]) for i in range(n))
        y = y[(slice(None), slice(None), *inner)]
        return [y if b is None else np.add(y, b.reshape(-1, *(1,) * n))]


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


@dataclass(frozen=True)
class Gemm(Op):
    """``alpha * A' @ B' + beta * c``; ``A'``, ``B'`` are matrices, transposed if asked."""

    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        a, b = operand(ins, 0).type, operand(ins, 1).type
        if a.rank != 2 or b.rank != 2 or a.dtype != b.dtype:
            raise ValueError(f"{a} and {b} are not two matrices")
        (m, k), (k2, n) = (
            a.shape[:: -1 if self.trans_a else 1],
            b.shape[:: -1 if self.trans_b else 1],
        )
        if k != k2 and isinstance(k, int) and isinstance(k2, int):
            raise ValueError(f"{a} and {b} do not multiply")
        if len(ins) > 2 and ins[2] is not None:
            c = operand(ins, 2).type
            if broadcast((m, n), c.shape) != (m, n):
                raise ValueError(f"{c} does not broadcast to {(m, n)}")
        return [TensorType(a.dtype, (m, n))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a, b, c = given(ins), given(ins, 1), optional(ins, 2)
        y = np.matmul(a.T if self.trans_a else a, b.T if self.trans_b else b)
        if self.alpha != 1:
            y = np.multiply(y, a.dtype.type(self.alpha))
        if c is None:
            return [y]
        return [np.add(y, c if self.beta == 1 else np.multiply(c, a.dtype.type(self.beta)))]


@dataclass(frozen=True)
class Pool(Op):
    """A window that slides over the spatial axes of ``x[N,C,*S]``."""

    kernel: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x, n = operand(ins, 0).type, len(self.kernel)
        if x.rank != n + 2 or len(self.strides) != n or len(self.pads) != 2 * n:
            raise ValueError(f"input {x} does not fit {n} spatial axes")
        space = (
            window(d, k, s, _ends(self.pads, i), self.dilations[i], self.ceil_mode)
            for i, (d, k, s) in enumerate(zip(x.shape[2:], self.kernel, self.strides, strict=True))
        )
        return [TensorType(x.dtype, (*x.shape[:2], *space))]

    def reduce(self, x: Array, fill: float, combine: Callable[..., Array]) -> Array:
        """Combine the elements under each window; what lies outside ``x`` is ``fill``."""
        n = len(self.kernel)
        sizes, edge = [], []
        for i in range(n):
            size, (begin, end) = x.shape[i + 2], _ends(self.pads, i)
            stride, reach = self.strides[i], self.dilations[i] * (self.kernel[i] - 1) + 1
            out = window_output(
                size, self.kernel[i], stride, (begin, end), self.dilations[i], self.ceil_mode
            )
            sizes.append(out)
            edge.append((begin, max(end, (out - 1) * stride + reach - size - begin)))
        padded = np.pad(x, ((0, 0), (0, 0), *edge), constant_values=fill)
        y = np.full((*x.shape[:2], *sizes), fill, x.dtype)
        for tap in combinations(*map(range, self.kernel)):
            combine(y, padded[_tap(tap, sizes, self.strides, self.dilations)], out=y)
        return y


class MaxPool(Pool):
    """Greatest element under each window; padding never wins."""

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [self.reduce(x, least(x), np.maximum)]


def least(x: Array) -> float:
    """The number of ``x``'s type that no other is below."""
    return -np.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype.name).min)


@dataclass(frozen=True)
class AveragePool(Pool):
    """Mean of the elements under each window, summed in float64.

    Padding counts as zeros if ``count_include_pad``.
    """

    count_include_pad: bool = False

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, n = given(ins).astype(np.float64), len(self.kernel)
        total = self.reduce(x, 0, np.add)
        counts: Array = np.ones((), np.float64)
        for i in range(n):
            counts = np.multiply.outer(counts, self._taps_inside(x.shape, total.shape, i))
        return [np.divide(total, np.maximum(counts, 1)).astype(given(ins).dtype)]

    def _taps_inside(self, before: Sequence[int], after: Sequence[int], i: int) -> Array:
        """How many taps of each window along spatial axis ``i`` lie on what counts."""
        begin, end = _ends(self.pads, i)
        low, high = (-begin, before[i + 2] + end) if self.count_include_pad else (0, before[i + 2])
        starts = np.arange(after[i + 2])[:, None] * self.strides[i] - begin
        at = starts + np.arange(self.kernel[i]) * self.dilations[i]
        return np.asarray(((at >= low) & (at < high)).sum(1))


@dataclass(frozen=True)
class LpPool(Pool):
    """``(sum |x|**p) ** (1/p)`` under each window."""

    p: int = 2

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        powers = np.power(np.abs(given(ins)), self.p)
        return [np.power(self.reduce(powers, 0, np.add), 1 / self.p).astype(powers.dtype)]


class GlobalPool(Op):
    """A reduction of all spatial axes to 1."""

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if x.rank < 3:
            raise ValueError(f"{x} has no spatial axes")
        return [TensorType(x.dtype, (*x.shape[:2], *(1 for _ in x.shape[2:])))]


class GlobalAveragePool(GlobalPool):
    """Mean over all spatial axes, summed in float64."""

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        mean = np.mean(x, tuple(range(2, x.ndim)), keepdims=True, dtype=np.float64)
        return [mean.astype(x.dtype)]


class GlobalMaxPool(GlobalPool):
    """Greatest element over all spatial axes."""

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        return [np.max(x, tuple(range(2, x.ndim)), keepdims=True)]


def _ends(pads: Sequence[int], i: int) -> tuple[int, int]:
    return pads[i], pads[i + len(pads) // 2]


def _tap(
    tap: Sequence[int], sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """The elements that one tap of a kernel touches, for all positions."""
    starts = (t * d for t, d in zip(tap, dilations, strict=True))
    space = (
        slice(at, at + (size - 1) * stride + 1, stride)
        for at, size, stride in zip(starts, sizes, strides, strict=True)
    )
    return (slice(None), slice(None), *space)
