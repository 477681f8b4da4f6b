"""Where the elements of a tensor lie in memory: affine layouts over logical axes.

Every tensor has one stride per *logical* axis (NCHW order for images), so a channels-last tensor, a
slice of it, a transposition and most reshapes are all the same kind of thing: a :class:`Strided`.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

LANES = 16
"""Physical channels of inner tensors are a multiple of this."""


@dataclass(frozen=True)
class Halo:
    """Pixels kept around an image for padded readers: per spatial axis, begins then ends."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is no border at all."""
        return not any(self.before) and not any(self.after)

    def covers(self, pads: tuple[int, ...]) -> bool:
        """Whether a reader with ONNX ``pads`` finds all its padding here."""
        n = len(pads) // 2
        before, after = self.before or (0,) * n, self.after or (0,) * n
        return all(b >= p for b, p in zip((*before, *after), pads, strict=True))

    def grown(self, pads: tuple[int, ...]) -> "Halo":
        """The least border that also serves a reader with ``pads``."""
        n = len(pads) // 2
        before, after = self.before or (0,) * n, self.after or (0,) * n
        return Halo(
            tuple(max(b, p) for b, p in zip(before, pads[:n], strict=True)),
            tuple(max(b, p) for b, p in zip(after, pads[n:], strict=True)),
        )


@dataclass(frozen=True)
class Strided:
    """Element type, logical shape and strides in elements; the first element is at the pointer."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def dense(dtype: str, shape: tuple[int, ...]) -> "Strided":
        """Row-major without gaps."""
        return Strided(dtype, shape, row_major(shape))

    @property
    def rank(self) -> int:
        """Number of logical axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return np.dtype(self.dtype).itemsize

    @property
    def span(self) -> int:
        """Elements from the first to the last one, both included."""
        return 1 + sum((d - 1) * max(s, 0) for d, s in zip(self.shape, self.strides, strict=True))

    @property
    def is_dense(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        pairs = zip(self.shape, self.strides, row_major(self.shape), strict=True)
        return all(d == 1 or s == want for d, s, want in pairs)

    def transposed(self, perm: tuple[int, ...]) -> "Strided":
        """Axes in another order."""
        shape, strides = (tuple(a[p] for p in perm) for a in (self.shape, self.strides))
        return Strided(self.dtype, shape, strides)

    def broadcast(self, shape: tuple[int, ...]) -> "Strided":
        """Repeated along new or unit axes as numpy does (stride 0).

        A scalar is stored as one element of one axis, which vanishes among scalars.
        """
        lead = len(shape) - self.rank
        if lead < 0 and self.size == 1:
            return Strided(self.dtype, shape, (0,) * len(shape))
        pairs = zip(self.shape, self.strides, shape[lead:], strict=True)
        strides = tuple(0 if d == 1 and want != 1 else s for d, s, want in pairs)
        return Strided(self.dtype, shape, (0,) * lead + strides)

    def reshaped(self, shape: tuple[int, ...]) -> "Strided | None":
        """The same elements under another shape, or None where that needs a copy."""
        if self.size == 0:
            return None
        anchor = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), self.shape, self.strides)
        try:
            view = np.reshape(anchor, shape, copy=False)
        except ValueError:
            return None
        return Strided(self.dtype, tuple(view.shape), tuple(view.strides))

    def sliced(
        self, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...] | None = None
    ) -> tuple["Strided", int]:
        """A window and the index of its first element."""
        offset = sum(a * s for a, s in zip(starts, self.strides, strict=True))
        steps = steps or (1,) * self.rank
        strides = tuple(s * t for s, t in zip(self.strides, steps, strict=True))
        return Strided(self.dtype, sizes, strides), offset


@dataclass(frozen=True)
class Allocation:
    """A fresh buffer: its elements, and where the first real one lies in it."""

    view: Strided
    elements: int
    offset: int


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense array."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def rows(dtype: str, shape: tuple[int, ...], lanes: int = 1) -> Allocation:
    """Row-major; the last axis is padded to a multiple of ``lanes``."""
    last = shape[-1] if shape else 1
    padded = (*shape[:-1], round_up(last, lanes)) if shape else ()
    return Allocation(Strided(dtype, shape, row_major(padded)), prod(padded), 0)


def channels_last(
    dtype: str, shape: tuple[int, ...], lanes: int = LANES, halo: Halo | None = None
) -> Allocation:
    """``[N, C, *S]`` with the channels innermost, padded to ``lanes``, inside a border ``halo``."""
    n = len(shape) - 2
    border = halo or Halo()
    before, after = border.before or (0,) * n, border.after or (0,) * n
    channels = round_up(shape[1], lanes)
    outer = [shape[2 + i] + before[i] + after[i] for i in range(n)]
    space = [s * channels for s in row_major(tuple(outer))]
    sample = prod(outer) * channels
    offset = sum(b * s for b, s in zip(before, space, strict=True))
    view = Strided(dtype, shape, (sample, 1, *space))
    return Allocation(view, sample * shape[0], offset)


def round_up(value: int, unit: int) -> int:
    """The least multiple of ``unit`` that is not below ``value``."""
    return -(-value // unit) * unit
