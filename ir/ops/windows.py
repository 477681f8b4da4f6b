"""Windows turned back into images, and pooling that remembers where."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product as combinations
from typing import Any

import numpy as np

from ..types import Array, TensorType
from .base import Op, Operands, given, operand, window_output
from .dims import known
from .pool import MaxPool, least


@dataclass(frozen=True)
class Col2Im(Op):
    """Columns ``[N, C * prod(block), L]`` added up in images ``[N, C, *image]``."""

    image: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    dilations: tuple[int, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        size = int(np.prod(self.block))
        if x.rank != 3 or known(x.shape[1]) % size:
            raise ValueError(f"{x} has no columns of {size} elements")
        return [TensorType(x.dtype, (x.shape[0], known(x.shape[1]) // size, *self.image))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, n = given(ins), len(self.image)
        strides, dilations = self.strides or (1,) * n, self.dilations or (1,) * n
        pads = self.pads or (0,) * 2 * n
        counts = [
            window_output(
                self.image[i], self.block[i], strides[i], (pads[i], pads[i + n]), dilations[i]
            )
            for i in range(n)
        ]
        columns = x.reshape(x.shape[0], -1, *self.block, *counts)
        whole = [d + pads[i] + pads[i + n] for i, d in enumerate(self.image)]
        y = np.zeros((*columns.shape[:2], *whole), x.dtype)
        every: tuple[Any, ...] = (slice(None), slice(None))
        for tap in combinations(*map(range, self.block)):
            starts = [t * d for t, d in zip(tap, dilations, strict=True)]
            ends = [s + (c - 1) * t + 1 for s, c, t in zip(starts, counts, strides, strict=True)]
            at: tuple[Any, ...] = (*every, *map(slice, starts, ends, strides))
            y[at] += columns[(*every, *tap)]
        inner = (slice(pads[i], pads[i] + d) for i, d in enumerate(self.image))
        return [np.ascontiguousarray(y[(*every, *inner)])]


@dataclass(frozen=True)
class MaxPoolIndices(Op):
    """``MaxPool`` with the place of each greatest element in the flat operand as second result.

    With ``storage_order`` 1 the last two axes of a place are counted the other way around.
    """

    pool: MaxPool = field(default_factory=MaxPool)
    storage_order: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        (values,) = self.pool.infer(ins)
        return [values, TensorType("int64", values.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        (values,) = self.pool.eval(ins)
        best = np.full(values.shape, -1, np.int64)
        taps: list[Array] = []

        def elements(y: Array, part: Array, out: Array) -> Array:
            taps.append(part == values)
            return y

        def places(y: Array, part: Array, out: Array) -> Array:
            first = taps.pop(0) & (best < 0) & (part >= 0)
            best[first] = part[first]
            return y

        self.pool.reduce(x, least(x), elements)
        self.pool.reduce(self._places(x), -1, places)
        return [values, best]

    def _places(self, x: Array) -> Array:
        at = np.arange(x.size)
        if not self.storage_order:
            return at.reshape(x.shape)
        order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
        return at.reshape([x.shape[i] for i in order]).transpose(order)


@dataclass(frozen=True)
class MaxUnpool(Op):
    """Elements put back to the places that ``MaxPool`` remembered; zeros elsewhere.

    Operands: x, places.  ``shape`` is the result's, None: the least one.
    """

    kernel: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        least = self._least(x.static)
        if self.shape is not None and len(self.shape) != x.rank:
            raise ValueError(f"{self.shape} is not a shape for {x}")
        return [TensorType(x.dtype, self.shape or least)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, places = given(ins), given(ins, 1)
        y = np.zeros(self._least(x.shape), x.dtype)
        y.reshape(-1)[places.reshape(-1)] = x.reshape(-1)
        if self.shape is None:
            return [y]
        out = np.zeros(self.shape, x.dtype)
        out[tuple(slice(d) for d in y.shape)] = y
        return [out]

    def _least(self, shape: Sequence[int]) -> tuple[int, ...]:
        n = len(self.kernel)
        strides, pads = self.strides or (1,) * n, self.pads or (0,) * 2 * n
        space = (
            (shape[i + 2] - 1) * strides[i] + self.kernel[i] - pads[i] - pads[i + n]
            for i in range(n)
        )
        return (*shape[:2], *space)
