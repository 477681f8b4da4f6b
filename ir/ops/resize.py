"""Resize: one line per coordinate rule, an interpolation matrix per axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.action import Action
from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, operand
from .dims import known

if TYPE_CHECKING:
    from ..coupling.relations import Relations
    from ..graph import Node


@dataclass(frozen=True)
class Resize(Op):
    """Interpolate ``x`` to ``sizes``, or by ``scales``; both name all axes.

    ``mode``: ``nearest``, ``linear``, ``cubic``.  Operands: x; scales (float32) or sizes (int64)
    where they are not constant (then both attributes are None).
    """

    mode: str = "nearest"
    scales: tuple[float, ...] | None = None
    sizes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        if self.scales is None and self.sizes is None:
            name = operand(ins, 1).name
            return [TensorType(x.dtype, tuple(f"{name}.{i}" for i in range(x.rank)))]
        given_ = self.sizes if self.sizes is not None else self.scales
        if given_ is None or len(given_) != x.rank:
            raise ValueError(f"scales or sizes {given_} do not name all axes of {x}")
        return [TensorType(x.dtype, tuple(self._dim(d, i) for i, d in enumerate(x.shape)))]

    def _dim(self, d: Dim, i: int) -> Dim:
        if self.scales is not None:
            return (
                d if self.scales[i] == 1 else int(np.floor(known(d) * np.float32(self.scales[i])))
            )
        assert self.sizes is not None
        return d if self.sizes[i] == -1 else self.sizes[i]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        scales, sizes = self.scales, self.sizes
        if scales is None and sizes is None:
            dynamic = given(ins, 1)
            if dynamic.dtype.kind == "f":
                scales = tuple(float(s) for s in dynamic)
            else:
                sizes = tuple(int(s) for s in dynamic)
        y = x.astype(np.float64) if x.dtype.kind == "f" and self.mode != "nearest" else x
        for axis, size in enumerate(x.shape):
            if scales is not None:
                out, scale = int(np.floor(size * np.float32(scales[axis]))), float(scales[axis])
            else:
                assert sizes is not None
                out = size if sizes[axis] == -1 else sizes[axis]
                scale = out / size
            if out != size or scale != 1:
                y = self.along(y, axis, self.positions(size, out, scale), scale)
        return [np.ascontiguousarray(y).astype(x.dtype)]

    def positions(self, size: int, out: int, scale: float) -> Array:
        """Where in the operand (float64) each of ``out`` results lies."""
        i = np.arange(out, dtype=np.float64)
        match self.coordinate_transformation_mode:
            case "half_pixel":
                return (i + 0.5) / scale - 0.5
            case "half_pixel_symmetric":
                adjust = out / (scale * size)
                centre = size / 2
                return centre * (1 - adjust) + (i + 0.5) / scale - 0.5
            case "pytorch_half_pixel":
                return (i + 0.5) / scale - 0.5 if out > 1 else np.zeros(1)
            case "align_corners":
                exact = scale * size  # not rounded down, as ONNX's own cases have it
                return i * (size - 1) / (exact - 1) if out > 1 else np.zeros(out)
            case "asymmetric":
                return i / scale
        raise ValueError(
            f"coordinate transformation {self.coordinate_transformation_mode!r} is not supported"
        )

    def nearest(self, at: Array) -> Array:
        """The indices that ``nearest`` interpolation takes for positions ``at``."""
        at = at.astype(np.float64)
        match self.nearest_mode:
            case "round_prefer_floor":
                return np.ceil(at - 0.5).astype(np.int64)
            case "round_prefer_ceil":
                return np.floor(at + 0.5).astype(np.int64)
            case "floor":
                return np.floor(at).astype(np.int64)
            case "ceil":
                return np.ceil(at).astype(np.int64)
        raise ValueError(f"nearest mode {self.nearest_mode!r} is not supported")

    def weights(self, size: int, out: int, scale: float) -> Array:
        """The interpolation matrix of one axis, float64 ``[out, size]`` (linear and cubic)."""
        return self._weights_at(self.positions(size, out, scale), size, scale)

    def _weights_at(self, at: Array, size: int, scale: float) -> Array:
        at, out = at.astype(np.float64), len(at)
        support = 1 if self.mode == "linear" else 2
        stretch = max(1.0, 1 / scale) if self.antialias else 1.0
        reach = int(np.ceil(support * stretch))
        base = np.floor(at).astype(np.int64)
        matrix = np.zeros((out, size))
        for tap in range(1 - reach, reach + 1):
            index = base + tap
            w = self._kernel((index - at) / stretch)
            if self.exclude_outside:
                w = np.where((index < 0) | (index >= size), 0, w)
            np.add.at(matrix, (np.arange(out), np.clip(index, 0, size - 1)), w)
        if self.exclude_outside or self.antialias:
            matrix /= matrix.sum(1, keepdims=True)
        return matrix

    def factor(self, axis: int, size: int, out: int) -> float:
        """By how much ``axis`` grows from ``size`` to ``out`` elements."""
        return float(self.scales[axis]) if self.scales is not None else out / size

    def moved_axes(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        """The axes that are not left alone, for shapes of operand and result."""
        return [
            i
            for i, (size, out) in enumerate(zip(before, after, strict=True))
            if size != out or (self.scales is not None and self.scales[i] != 1)
        ]

    def taps(self, axis: int, size: int, out: int) -> tuple[Array, Array]:
        """What every result along ``axis`` sums (linear and cubic): indices and float64 weights.

        Both are ``[out, taps]``.
        """
        matrix = self.weights(size, out, self.factor(axis, size, out))
        count = max(1, int((matrix != 0).sum(1).max()))
        indices = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
        return indices, np.take_along_axis(matrix, indices, 1)

    def _kernel(self, d: Array) -> Array:
        t = np.abs(d.astype(np.float64))
        if self.mode == "linear":
            return np.asarray(np.maximum(1 - t, 0))
        a = self.cubic_coeff_a
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.asarray(np.where(t <= 1, near, np.where(t < 2, far, 0)))

    def along(self, y: Array, axis: int, at: Array, scale: float) -> Array:
        """``y`` with ``axis`` sampled at positions ``at``."""
        size = y.shape[axis]
        if self.mode == "nearest":
            return np.take(y, np.clip(self.nearest(at), 0, size - 1), axis)
        if self.mode not in ("linear", "cubic"):
            raise ValueError(f"mode {self.mode!r} is not supported")
        moved = np.moveaxis(y, axis, -1)
        return np.moveaxis(np.matmul(moved, self._weights_at(at, size, scale).T), -1, axis)

    def couple(self, relations: Relations, node: Node) -> None:
        x, y = node.operands[0], node.output
        if self.scales is None and self.sizes is None:
            relations.pin_all(node, "resized by data")
            return
        moved = self.moved_axes(x.shape, y.shape)
        for k, (a, b) in enumerate(zip(relations.axes(x), relations.axes(y), strict=True)):
            if k in moved:
                relations.pin(a, "spatial position")
                relations.pin(b, "spatial position")
            else:
                relations.same(a, b, Action.COUPLED | Action.LINEAR)
