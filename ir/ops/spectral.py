"""Fourier transforms and mel filters; complex numbers are a last axis of two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, Dim, TensorType
from .base import Op, Operands, given, normal_axis, operand, optional
from .dims import known


@dataclass(frozen=True)
class DFT(Op):
    """Discrete Fourier transform along ``axis`` of ``x [..., 1 or 2]``, of ``length`` points.

    ``length`` 0 is the axis's own.  ``onesided`` keeps the first half of the frequencies of real
    numbers; with ``inverse`` it makes real numbers of such a half.
    """

    axis: int = -2
    length: int = 0
    inverse: bool = False
    onesided: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        shape: list[Dim] = list(x.shape)
        a = normal_axis(self.axis, x.rank)
        if known(shape[-1]) not in (1, 2) or a == x.rank - 1:
            raise ValueError(f"{x} holds no real or complex numbers along axis {self.axis}")
        if self.length or self.onesided:
            points = self._points(known(shape[a]))
            shape[a] = points // 2 + 1 if self.onesided and not self.inverse else points
        return [TensorType(x.dtype, (*shape[:-1], 1 if self.onesided and self.inverse else 2))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        a = normal_axis(self.axis, x.ndim)
        numbers = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
        points = self._points(x.shape[a])
        if self.inverse and self.onesided:
            return [np.fft.irfft(numbers, points, a)[..., None].astype(x.dtype)]
        if self.inverse:
            y = np.fft.ifft(numbers, points, a)
        else:
            y = np.fft.fft(numbers, points, a)
            if self.onesided:
                y = np.take(y, np.arange(points // 2 + 1), a)
        return [pairs(y).astype(x.dtype)]

    def _points(self, size: int) -> int:
        return self.length or (2 * (size - 1) if self.inverse and self.onesided else size)


@dataclass(frozen=True)
class STFT(Op):
    """Fourier transforms of frames ``step`` apart: ``x [N, length, 1 or 2], window?``.

    ``length`` 0 is the window's, else the signal's.  Result: ``[N, frames, frequencies, 2]``.
    """

    step: int = 1
    length: int = 0
    onesided: bool = True

    def infer(self, ins: Operands) -> list[TensorType]:
        x = operand(ins, 0).type
        window = ins[1].type if len(ins) > 1 and ins[1] is not None else None
        size = known(x.shape[1])
        points = self.length or (size if window is None else known(window.shape[0]))
        bins = points // 2 + 1 if self.onesided else points
        return [TensorType(x.dtype, (x.shape[0], 1 + (size - points) // self.step, bins, 2))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, window = given(ins), optional(ins, 1)
        points = self.length or (x.shape[1] if window is None else len(window))
        numbers = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
        starts = self.step * np.arange(1 + (x.shape[1] - points) // self.step)
        frames = numbers[:, starts[:, None] + np.arange(points)].astype(np.complex128)
        y = np.fft.fft(frames if window is None else frames * window, points, -1)
        return [pairs(y[..., : points // 2 + 1] if self.onesided else y).astype(x.dtype)]


def pairs(x: Array) -> Array:
    """Complex numbers as real and imaginary part along a new last axis."""
    return np.stack([x.real, x.imag], -1)


@dataclass(frozen=True)
class MelWeightMatrix(Op):
    """Triangular filters ``[dft_length // 2 + 1, bins]``, equally wide in mel.

    Operands, scalars: bins, dft_length, sample rate, lower and upper edge in Hertz.
    """

    dtype: str = "float32"

    def infer(self, ins: Operands) -> list[TensorType]:
        bins, length = operand(ins, 0), operand(ins, 1)
        rows: Dim = f"{length.name}/2" if length.data is None else int(length.data) // 2 + 1
        columns: Dim = bins.name if bins.data is None else int(bins.data)
        return [TensorType(self.dtype, (rows, columns))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        bins, length, rate = (int(given(ins, i)) for i in range(3))
        low, high = (2595 * np.log10(1 + float(given(ins, i)) / 700) for i in (3, 4))
        mels = np.arange(bins + 2) * (high - low) / (bins + 2) + low
        hertz = 700 * (10 ** (mels / 2595) - 1)
        edges = ((length + 1) * hertz // rate).astype(np.int64)
        y = np.zeros((length // 2 + 1, bins))
        for i, (left, top, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            if left == top:
                y[top, i] = 1
            else:
                y[left : top + 1, i] = (np.arange(left, top + 1) - left) / (top - left)
            if top < right:
                y[top:right, i] = (right - np.arange(top, right)) / (right - top)
        return [y.astype(self.dtype)]
