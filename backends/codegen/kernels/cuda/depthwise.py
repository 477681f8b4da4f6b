"""Depthwise convolution: a thread computes four adjacent channels of one pixel.

Codes: the words of four taps (four channels each) are transposed by byte permutations, so that a
word holds four taps of one channel, and dp4a sums them.  float32: multiply-adds.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..conv import ConvWorkload
from ..isa import Expr
from ..operands import Operands, Signature, build
from . import rates
from .device import WARP, aligned, array, at, do, store
from .epilogue import Finish
from .sums import Pixel, pixel_of

CHANNELS = 4


@dataclass(frozen=True)
class DepthwiseKnobs:
    """Nothing is left to choose."""


@dataclass(frozen=True)
class Depthwise:
    """The template; ``size``: taps in a step, 4 (codes) or 1 (float32)."""

    size: int
    shift: ClassVar[int] = 0

    @property
    def dtype(self) -> str:
        """Of the weights."""
        return "int8" if self.size > 1 else "float32"

    def pack(
        self, weights: NDArray[np.generic], workload: ConvWorkload, knobs: DepthwiseKnobs
    ) -> NDArray[np.generic]:
        """[C, 1, h, w] weights as [steps, C, taps of a step], with taps of zero at the end."""
        channels, _, height, width = weights.shape
        full = np.zeros((workload.y.channels, self._steps(workload) * self.size), self.dtype)
        full[:channels, : height * width] = weights.reshape(channels, -1)
        steps = full.reshape(len(full), -1, self.size).transpose(1, 0, 2)
        return np.ascontiguousarray(steps)

    def extent(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> int:
        """The number of threads."""
        return workload.pixels * (workload.y.channels // CHANNELS)

    def knob_space(self, workload: ConvWorkload) -> list[DepthwiseKnobs]:
        """One: there is nothing to choose."""
        return [DepthwiseKnobs()]

    def cost(self, workload: ConvWorkload, knobs: DepthwiseKnobs) -> float:
        """Estimated cycles of a device."""
        steps = self._steps(workload)
        work = steps * (CHANNELS * rates.DOT * 3 + WARP * 4 * (self.size + 4) / rates.L1)
        warps = workload.samples * -(-self.extent(workload, knobs) // WARP)
        return rates.cycles(warps, steps * rates.CHUNK, work + CHANNELS * rates.FINISH)

    def prim_func(self, workload: ConvWorkload, knobs: DepthwiseKnobs, name: str) -> Any:
        """The kernel ``name``."""
        size = workload.y.channels * self._steps(workload) * self.size
        signature = Signature(
            workload.x, workload.y, workload.epilogue, workload.residual, size, self.dtype
        )

        def body(operands: Operands) -> None:
            with I.serial(operands.lo, operands.hi) as unit:
                self._emit(workload, operands, unit)

        return build(name, signature, body)

    def _steps(self, workload: ConvWorkload) -> int:
        return -(-workload.kernel[0] * workload.kernel[1] // self.size)

    def _emit(self, workload: ConvWorkload, operands: Operands, unit: Expr) -> None:
        groups = workload.y.channels // CHANNELS
        channel = I.bind(tirx.truncmod(unit, groups) * CHANNELS)
        pixel = pixel_of(workload, I.bind(tirx.truncdiv(unit, groups)))
        dtype = "float32" if self.size == 1 else "int32"
        sums = array(CHANNELS, dtype)
        with I.unroll(0, CHANNELS) as c:
            store(sums, tirx.const(0, dtype), c)
        step = self._multiply if self.size == 1 else self._dot
        step(workload, operands, sums, pixel, channel)
        finish = Finish(workload, operands)
        finish([sums[c] for c in range(CHANNELS)], pixel.row, pixel.column, channel)

    def _dot(
        self, workload: ConvWorkload, operands: Operands, sums: Any, pixel: Pixel, channel: Expr
    ) -> None:
        """Four taps at once; those beyond the kernel repeat the last one, times zero."""
        codes, weights = array(CHANNELS, "int32"), array(CHANNELS, "int32")
        offsets, x = _offsets(workload), workload.x
        load = aligned("qc_load4", gcd(x.row_stride, x.pixel_stride, CHANNELS), "x")
        for s in range(self._steps(workload)):
            for i in range(self.size):
                tap = offsets[min(s * self.size + i, len(offsets) - 1)]
                do(load, at(codes, i), at(operands.x, pixel.x + channel + tap))
            do("qc_transpose", at(codes, 0))
            start = s * workload.y.channels * self.size + channel * self.size
            do(aligned("qc_load16", 16), at(weights, 0), at(operands.weights, start))
            for c in range(CHANNELS):
                dot = tirx.call_pure_extern("int32", "qc_dot", codes[c], weights[c], sums[c])
                store(sums, dot, c)

    def _multiply(
        self, workload: ConvWorkload, operands: Operands, sums: Any, pixel: Pixel, channel: Expr
    ) -> None:
        for s, tap in enumerate(_offsets(workload)):
            for c in range(CHANNELS):
                value = operands.x[pixel.x + channel + tap + c]
                weight = operands.weights[s * workload.y.channels + channel + c]
                store(sums, tirx.call_pure_extern("float32", "fmaf", value, weight, sums[c]), c)


def _offsets(workload: ConvWorkload) -> list[int]:
    """The elements of ``x`` from the first tap to each."""
    (height, width), (down, right), x = workload.kernel, workload.dilations, workload.x
    return [
        row * down * x.row_stride + column * right * x.pixel_stride
        for row in range(height)
        for column in range(width)
    ]
