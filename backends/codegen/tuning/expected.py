"""What a kernel must make of some operands: the reference that kernels are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ....ir.ops import integer, nn
from ....ir.types import Array
from ..kernels import ConvWorkload, DepthwiseWorkload, Epilogue, FloatEpilogue, View
from ..kernels.operands import SLACK
from ..template import TemplateKernel

UNTOUCHED = 0xA5
"""The bytes of a result before its kernel has run."""

_NEAR = 1e-5
"""How far sums of reals, of any order, may be off, beside the largest one."""


@dataclass(frozen=True)
class Expected:
    """Operands in the order of a kernel's signature, OIHW weights, and the memory of ``y``.

    What lies between the pixels of ``y`` stays as it was.  ``near``: how far reals may be off, 0
    where results are exact.
    """

    operands: Mapping[str, Array]
    y: Array
    near: float = 0.0

    def arranged(self, kernel: TemplateKernel) -> list[Array]:
        """The operands as ``kernel`` takes them."""
        weights = self.operands["weights"]
        bias = kernel.bias(self.operands["bias"], weights)
        own = {**self.operands, "weights": kernel.pack(weights), "bias": bias}
        return list(own.values())

    @property
    def untouched(self) -> Array:
        """The memory of ``y`` before."""
        return np.full(self.y.nbytes, UNTOUCHED, np.uint8).view(self.y.dtype)


@lru_cache(maxsize=8)
def expected(workload: ConvWorkload) -> Expected:
    """Random operands of a workload and their result."""
    rng, w, e = np.random.default_rng(0), workload, workload.epilogue
    inputs = 1 if isinstance(w, DepthwiseWorkload) else w.x.channels
    shape = (w.y.channels, inputs, *w.kernel)
    spread = 1 / np.sqrt(inputs * w.kernel[0] * w.kernel[1])
    if isinstance(e, FloatEpilogue):
        data: dict[str, Array] = {
            "x": rng.standard_normal(w.x.span + SLACK).astype(np.float32),
            "weights": (rng.standard_normal(shape) * spread).astype(np.float32),
            "bias": rng.standard_normal(w.y.channels).astype(np.float32),
        }
        result = _real(workload, e, data)
        return Expected(data, _memory(w.y, result), _NEAR * float(np.abs(result).max()))
    data = {
        "x": rng.integers(0, 256, w.x.span + SLACK).astype(np.uint8),
        "weights": rng.integers(-128, 128, shape).astype(np.int8),
        "bias": rng.integers(-3000, 3000, w.y.channels).astype(np.int32),
        "multiplier": (rng.random(w.y.channels) * 4e-2 * spread).astype(np.float32),
    }
    if w.residual is not None:
        data["residual"] = rng.integers(0, 256, w.residual.span).astype(np.uint8)
    if e.table:
        data["table"] = rng.permutation(256).astype(np.uint8)
    return Expected(data, _memory(w.y, _codes(workload, e, data)))


def _memory(view: View, pixels: Array) -> Array:
    """``[height, width, channels]`` where they lie, in memory that was untouched."""
    size = view.span * np.dtype(view.dtype).itemsize
    flat = np.full(size, UNTOUCHED, np.uint8).view(view.dtype)
    _window(flat, view)[:] = pixels
    return flat


def _codes(workload: ConvWorkload, e: Epilogue, data: Mapping[str, Array]) -> Array:
    """The pixels by the integer op that the workload is made from."""
    w, residual = workload, None
    if (r := e.residual) is not None:
        residual = integer.Residual(r.multiplier, r.shift, r.constant)
    epilogue = integer.Epilogue(e.dtype, e.zero_point, e.low, e.high, residual, e.table)
    op = integer.QConv(strides=w.strides, dilations=w.dilations, group=_group(w), epilogue=epilogue)
    operands = [_image(w, data["x"])]
    operands += [data[name] for name in ("weights", "bias", "multiplier")]
    if w.residual is not None:
        operands.append(_first(_window(data["residual"], w.residual)))
    if e.table:
        operands.append(data["table"])
    (result,) = op.eval(operands)
    return np.asarray(result[0].transpose(1, 2, 0))


def _real(workload: ConvWorkload, e: FloatEpilogue, data: Mapping[str, Array]) -> Array:
    """The pixels in float64."""
    w = workload
    op = nn.Conv(strides=w.strides, dilations=w.dilations, group=_group(w))
    operands = [_image(w, data["x"]), data["weights"], data["bias"]]
    (result,) = op.eval([a.astype(np.float64) for a in operands])
    return np.asarray(np.clip(result[0].transpose(1, 2, 0), e.low, e.high))


def _group(workload: ConvWorkload) -> int:
    return workload.y.channels if isinstance(workload, DepthwiseWorkload) else 1


def _image(w: ConvWorkload, x: Array) -> Array:
    """What the windows of the output's pixels cover."""
    sizes = zip((w.y.height, w.y.width), w.strides, w.kernel, w.dilations, strict=True)
    height, width = ((n - 1) * s + (k - 1) * d + 1 for n, s, k, d in sizes)
    return _first(_window(x, w.x)[:height, :width])


def _first(image: Array) -> Array:
    """``[H, W, C]`` as ``[1, C, H, W]``."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))[None]


def _window(flat: Array, view: View) -> Array:
    """The pixels of a view."""
    size = flat.itemsize
    strides = (view.row_stride * size, view.pixel_stride * size, size)
    shape = (view.height, view.width, view.channels)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)
