"""Functions of tensors that torch has under no name of its own; modules call them when they run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...ir.ops.hadamard import rotation


def shape_of(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """Dimensions ``start`` to ``end``, int64."""
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def reshaped(x: Tensor, shape: Tensor, allowzero: bool = False) -> Tensor:
    """``x`` in the shape that a tensor says; 0 keeps an axis unless it is allowed."""
    sizes = [int(d) for d in shape.tolist()]
    if not allowzero:
        sizes = [x.shape[i] if d == 0 else d for i, d in enumerate(sizes)]
    return x.reshape(sizes)


def expanded(x: Tensor, shape: Tensor) -> Tensor:
    """``x`` broadcast against the shape that a tensor says."""
    target = torch.broadcast_shapes(x.shape, tuple(int(d) for d in shape.tolist()))
    return x.expand(target)


def full_of(shape: Tensor, value: float, dtype: torch.dtype) -> Tensor:
    """A tensor of ``value``."""
    return torch.full([int(d) for d in shape.tolist()], value, dtype=dtype)


def matrix_of(x: Tensor, axis: int) -> Tensor:
    """The axes before ``axis`` and those from it on."""
    rows = 1
    for d in x.shape[:axis]:
        rows *= d
    return x.reshape(rows, -1) if x.numel() else x.reshape(rows, 0)


def sliced(
    x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int],
    steps: Sequence[int],
) -> Tensor:  # fmt: skip
    """Parts of axes as ONNX cuts them, backwards too."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        first, last = (i + size if i < 0 else i for i in (start, end))
        if step > 0:
            at = range(min(max(first, 0), size), min(max(last, 0), size), step)
        else:
            at = range(min(max(first, 0), size - 1), min(max(last, -1), size - 1), step)
        x = x.index_select(axis, torch.tensor(list(at), dtype=torch.int64, device=x.device))
    return x


def padded(x: Tensor, pads: Sequence[int], mode: str) -> Tensor:
    """``pads`` (begins of all axes, then ends) by elements of ``x``: reflect, edge or wrap."""
    n = x.dim()
    for axis in range(n):
        begin, end = pads[axis], pads[axis + n]
        if begin or end:
            inside = np.arange(x.shape[axis])[max(-begin, 0) : x.shape[axis] - max(-end, 0)]
            grow = (max(begin, 0), max(end, 0))
            at = torch.from_numpy(np.pad(inside, grow, mode=mode))  # type: ignore[call-overload]
            x = x.index_select(axis, at.to(x.device))
    return x


def gathered(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """``x`` at ``indices`` along ``axis``."""
    return x[(slice(None),) * axis + (indices.long(),)]


def gathered_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """One element of ``axis`` for every index."""
    return torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


def _wrapped(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def gathered_tuples(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Slices of ``x`` at the index tuples along the last axis."""
    indices = indices.long()
    lead = [
        torch.arange(indices.shape[i], device=x.device).reshape(-1, *(1,) * (indices.dim() - 2 - i))
        for i in range(batch_dims)
    ]
    return x[(*lead, *indices.unbind(-1))]


def scattered_elements(
    x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str
) -> Tensor:
    """``x`` with one element of ``axis`` replaced or reduced for every index."""
    indices = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    kind = {"add": "sum", "mul": "prod", "min": "amin", "max": "amax"}[reduction]
    return x.scatter_reduce(axis, indices, updates, kind)


def scattered_tuples(x: Tensor, indices: Tensor, updates: Tensor, accumulate: bool) -> Tensor:
    """``x`` with slices replaced, or added to."""
    return x.index_put(indices.long().unbind(-1), updates, accumulate)


def one_hot(indices: Tensor, values: Tensor, depth: int, axis: int) -> Tensor:
    """``values[1]`` at the index along a new axis, else ``values[0]``."""
    hit = _wrapped(indices, depth).unsqueeze(-1) == torch.arange(depth, device=indices.device)
    return torch.where(hit.movedim(-1, axis), values[1], values[0])


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Channels to blocks of pixels, the block's place slowest (DCR)."""
    n, c, h, w = x.shape
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Blocks of pixels to channels."""
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block**2, h // block, w // block)


def top(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The ``k`` greatest or least elements; of equal ones the first."""
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def last_extreme(x: Tensor, axis: int, keepdim: bool, largest: bool) -> Tensor:
    """The last index of the greatest or least element."""
    pick = torch.argmax if largest else torch.argmin
    return x.shape[axis] - 1 - pick(x.flip(axis), axis, keepdim)


def running_sum(x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running sum, backwards or without the element itself if asked."""
    y = x.flip(axis) if reverse else x
    total = torch.cumsum(y, axis, dtype=x.dtype)
    total = total - y if exclusive else total
    return total.flip(axis) if reverse else total


def product(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Product over axes."""
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim)
    return x


def hadamard(x: Tensor) -> Tensor:
    """The last axis times an orthogonal Hadamard matrix."""
    return x @ torch.tensor(rotation(x.shape[-1]), dtype=x.dtype, device=x.device)


def hardmax(x: Tensor, axis: int) -> Tensor:
    """1 at the first greatest element, else 0."""
    best = torch.argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, best, 1.0)


def local_response(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """``x / (bias + alpha / size * sum of squares of size channels) ** beta``."""
    ends = [0] * (2 * (x.dim() - 2)) + [(size - 1) // 2, size // 2]
    squares = F.pad(x * x, ends)
    total = squares.unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * total) ** beta


def lp_normal(x: Tensor, p: int, axis: int) -> Tensor:
    """``x`` over its norm."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def window_sum(x: Tensor, kernel: Sequence[int], strides: Sequence[int], ceil: bool) -> Tensor:
    """The sum under each window."""
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    area = float(np.prod(list(kernel)))
    return pool(x, list(kernel), list(strides), 0, ceil) * area


def edge_average(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], ends: Sequence[int], inside: bool
) -> Tensor:
    """The mean under each window of a padded ``x``, of all of it or of what is inside."""
    wide = F.pad(x, list(ends))
    total = window_sum(wide, kernel, strides, False)
    if not inside:
        return total / float(np.prod(list(kernel)))
    return total / window_sum(F.pad(torch.ones_like(x), list(ends)), kernel, strides, False)


def lp_pool(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], ends: Sequence[int], p: int
) -> Tensor:
    """``(sum |x|**p) ** (1/p)`` under each window."""
    return window_sum(F.pad(x.abs() ** p, list(ends)), kernel, strides, False) ** (1 / p)


def infinite(x: Tensor, negative: bool, positive: bool) -> Tensor:
    """Whether elements are infinite, of the signs asked for."""
    found = torch.zeros_like(x, dtype=torch.bool)
    found = found | torch.isneginf(x) if negative else found
    return found | torch.isposinf(x) if positive else found


def turned(y: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """``matrix`` times the vectors along ``axis``."""
    return torch.movedim(torch.matmul(torch.movedim(y, axis, -1), matrix.t()), -1, axis)
