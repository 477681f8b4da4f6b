"""Ops that read between the elements: GridSample, DeformConv, RoiAlign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import Any

import numpy as np

from ..types import Array, TensorType
from .base import Op, Operands, given, operand, optional
from .dims import known

_CUBIC = -0.75


@dataclass(frozen=True)
class GridSample(Op):
    """``x [N, C, *S]`` at the points of ``grid [N, *O, r]`` (last axis first), -1 to 1 per axis.

    ``mode``: ``linear``, ``nearest`` (halves to even), ``cubic``.  Beyond the borders
    ``padding_mode`` says ``zeros``, ``border`` or ``reflection``; the borders are the outermost
    elements' centres with ``align_corners``, else their edges.
    """

    mode: str = "linear"
    padding_mode: str = "zeros"
    align_corners: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x, grid = operand(ins, 0).type, operand(ins, 1).type
        if grid.rank != x.rank or known(grid.shape[-1]) != x.rank - 2:
            raise ValueError(f"grid {grid} has no points in {x}")
        return [TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, grid = given(ins), given(ins, 1).astype(np.float64)
        sizes = x.shape[2:]
        results = []
        for image, points in zip(x, grid, strict=True):
            at = [self._position(points[..., -1 - i], d) for i, d in enumerate(sizes)]
            results.append(interpolate(image, at, self.mode, self.padding_mode, self._borders))
        return [np.stack(results).astype(x.dtype)]

    def _position(self, p: Array, size: int) -> Array:
        """Indices for coordinates from -1 to 1; those beyond the borders are brought back.

        Cubic interpolation brings back the elements that it reads instead, as PyTorch does.
        """
        at = (p + 1) / 2 * (size - 1) if self.align_corners else ((p + 1) * size - 1) / 2
        at = np.rint(at) if self.mode == "nearest" else at
        low, high = self._borders(size)
        outside = (at < low) | (at > high)
        if self.mode == "cubic":
            return np.asarray(at)
        if self.padding_mode == "border":
            return np.where(outside, np.clip(at, 0, size - 1), at)
        if self.padding_mode == "reflection":
            return np.where(outside, _reflect(at, low, high), at)
        return at

    def _borders(self, size: int) -> tuple[float, float]:
        return (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)


def interpolate(
    x: Array,
    at: Sequence[Array],
    mode: str = "linear",
    padding: str = "zeros",
    borders: Callable[[int], tuple[float, float]] = lambda size: (-0.5, size - 0.5),
) -> Array:
    """``x [C, *S]`` at the points whose indices on each axis are ``at``: ``[C, *shape of at]``."""
    taps = [_taps(p, mode) for p in at]
    total = np.zeros((x.shape[0], *at[0].shape))
    for corner in combinations(*taps):
        weight: Array = np.ones(at[0].shape)
        places = []
        for (index, share), size in zip(corner, x.shape[1:], strict=True):
            if padding == "zeros":
                share = np.where((index >= 0) & (index < size), share, 0)
            elif padding == "reflection":
                low, high = borders(size)
                beyond = (index < low) | (index > high)
                index = np.where(beyond, np.trunc(_reflect(index, low, high)), index)
            places.append(np.clip(index, 0, size - 1).astype(np.int64))
            weight = weight * share
        at_corner: tuple[Any, ...] = (slice(None), *places)
        total += x[at_corner] * weight
    return total


def _taps(at: Array, mode: str) -> list[tuple[Array, Array]]:
    """Indices around ``at`` and the share of each."""
    if mode == "nearest":
        return [(np.rint(at), np.ones(at.shape))]
    base = np.floor(at)
    t = at - base
    if mode == "linear":
        return [(base, 1 - t), (base + 1, t)]
    return [(base + i, _cubic(np.abs(t - i))) for i in (-1, 0, 1, 2)]


def _cubic(t: Array) -> Array:
    """Keys' kernel, "Cubic convolution interpolation for digital image processing", 1981."""
    a = _CUBIC
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    return np.where(t <= 1, near, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a)


def _reflect(x: Array, low: float, high: float) -> Array:
    span = max(high - low, 1e-12)
    distance = np.where(x < low, low - x, x - high)
    times, rest = np.floor(distance / span), np.mod(distance, span)
    near_low = (x < low) == (np.mod(times, 2) == 0)
    return np.where(near_low, low + rest, high - rest)


@dataclass(frozen=True)
class DeformConv(Op):
    """Convolution whose taps are moved by ``offset`` (two dimensions).

    Operands: x ``[N, C, H, W]``, w ``[O, C/group, kh, kw]``, offset ``[N, 2 * offset_group * kh *
    kw, H', W']`` (down, right), bias ``[O]``?, mask ``[N, offset_group * kh * kw, H', W']``?.
    """

    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1
    offset_group: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        x, w, offset = (operand(ins, i).type for i in range(3))
        if x.rank != 4 or w.rank != 4:
            raise ValueError(f"input {x} and weights {w} do not have two spatial axes")
        taps = w.static[2] * w.static[3] * self.offset_group
        if known(offset.shape[1]) != 2 * taps:
            raise ValueError(f"offset {offset} does not move {taps} taps")
        return [TensorType(x.dtype, (x.shape[0], w.shape[0], *offset.shape[2:]))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, w, offset = given(ins), given(ins, 1), given(ins, 2)
        bias, mask, kernel, out = optional(ins, 3), optional(ins, 4), w.shape[2:], offset.shape[2:]
        n, g = x.shape[0], self.offset_group
        moves = offset.reshape(n, g, *kernel, 2, *out).astype(np.float64)
        shares = (
            np.ones((n, g, *kernel, *out)) if mask is None else mask.reshape(n, g, *kernel, *out)
        )
        base = [
            self.strides[i] * np.arange(out[i]).reshape([-1 if i == j else 1 for j in range(2)])
            - self.pads[i]
            for i in range(2)
        ]
        taps = np.indices(kernel)[..., None, None]
        per = x.shape[1] // g
        columns = np.empty((n, g, per, *kernel, *out))
        for b in range(n):
            for o in range(g):
                at = [
                    base[i] + taps[i] * self.dilations[i] + moves[b, o, :, :, i] for i in range(2)
                ]
                part = x[b, o * per : (o + 1) * per]
                columns[b, o] = interpolate(part, at) * shares[b, o]
        columns = columns.reshape(n, self.group, -1, *kernel, *out)
        weights = w.reshape(self.group, -1, *w.shape[1:])
        y = np.einsum("gocyx,ngcyxhw->ngohw", weights, columns, optimize=True)
        y = y.reshape(n, w.shape[0], *out)
        return [(y if bias is None else y + bias.reshape(-1, 1, 1)).astype(x.dtype)]


@dataclass(frozen=True)
class RoiAlign(Op):
    """Regions of ``x [N, C, H, W]`` as images of one size.

    Operands: x, regions ``[R, 4]`` (left, top, right, bottom, times ``spatial_scale``), the image
    of each, int64 ``[R]``.  Every bin is the mean (``avg``) or the greatest share (``max``) of
    ``sampling_ratio`` squared points (0: as many as the bin has pixels).
    """

    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    coordinate_transformation_mode: str = "half_pixel"

    def infer(self, ins: Operands) -> list[TensorType]:
        x, regions = operand(ins, 0).type, operand(ins, 1).type
        size = (self.output_height, self.output_width)
        return [TensorType(x.dtype, (regions.shape[0], x.shape[1], *size))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, regions, images = given(ins), given(ins, 1), given(ins, 2)
        size = (self.output_height, self.output_width)
        y = np.zeros((len(regions), x.shape[1], *size), x.dtype)
        for i, (region, image) in enumerate(zip(regions, images, strict=True)):
            y[i] = self._region(x[int(image)].astype(np.float64), region.astype(np.float64))
        return [y]

    def _region(self, x: Array, region: Array) -> Array:
        half = self.coordinate_transformation_mode == "half_pixel"
        left, top, right, bottom = region * self.spatial_scale - (0.5 if half else 0.0)
        sides = []
        ends = ((top, bottom, self.output_height), (left, right, self.output_width))
        for i, (start, end, bins) in enumerate(ends):
            length = end - start if half else max(end - start, 1.0)
            count = self.sampling_ratio or int(np.ceil(length / bins))
            at = start + (np.arange(bins * count) + 0.5) * length / (bins * count)
            sides.append((*_corner_shares(at, x.shape[i + 1]), count))
        (ys, wy, ny), (xs, wx, nx) = sides
        corners = [
            x[:, ys[a]][:, :, xs[b]] * wy[a][:, None] * wx[b]
            for a, b in combinations((0, 1), (0, 1))
        ]
        shape = (x.shape[0], self.output_height, ny, self.output_width, nx)
        if self.mode == "max":
            return np.asarray(np.max(corners, 0).reshape(shape).max((2, 4)))
        return np.asarray(np.sum(corners, 0).reshape(shape).mean((2, 4)))


def _corner_shares(at: Array, size: int) -> tuple[list[Array], list[Array]]:
    """The two indices around each point and their shares; points beyond one pixel have none."""
    inside = (at >= -1) & (at <= size)
    at = np.clip(at, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    t = at - low
    return [low, np.minimum(low + 1, size - 1)], [(1 - t) * inside, t * inside]
