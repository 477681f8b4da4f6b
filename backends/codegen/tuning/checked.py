"""Kernels that a search wrote are run before they are trusted: compiled, called, compared."""

import ctypes
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ....ir.errors import BackendError
from ....ir.ops import integer
from ....ir.types import Array
from ..kernels import ConvWorkload, DepthwiseWorkload, Epilogue, View
from ..kernels.operands import SLACK
from ..link import run_compiler
from ..template import TemplateKernel
from ..worker import Compile, Compiled

_UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Checked(Compile):
    """Compile a kernel of integers for this machine, and run it against the integer reference.

    ``link``: the C compiler's command.  To be done in a process that may die.  Raises
    ``BackendError`` where a value differs or something else was written.
    """

    link: tuple[str, ...] = ()

    def __call__(self) -> Compiled:
        """The object file and the extent, as of ``Compile``."""
        compiled = super().__call__()
        assert isinstance(self.kernel, TemplateKernel)
        operands, want = trial_data(self.kernel.workload)
        arrays = [np.array(a) for a in _arranged(self.kernel, operands).values()]
        y = np.full(self.kernel.workload.y.span, _UNTOUCHED, np.uint8).astype(want.dtype)
        with tempfile.TemporaryDirectory(prefix="qc-check-") as folder:
            function = getattr(self._linked(compiled[0], Path(folder)), self.name)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, y)]
        half = compiled[1] // 2
        for lo, hi in ((half, compiled[1]), (0, half)):
            function(*pointers, ctypes.c_int32(lo), ctypes.c_int32(hi))
        if differing := int(np.count_nonzero(y != want)):
            raise BackendError(
                f"differs from the integer reference in {differing} of {want.size} values"
            )
        return compiled

    def _linked(self, code: bytes, folder: Path) -> Any:
        (folder / "kernel.o").write_bytes(code)
        run_compiler([*self.link, "-shared", "-o", "kernel.so", "kernel.o", "-lm"], folder)
        return ctypes.CDLL(str(folder / "kernel.so"))


def _arranged(kernel: TemplateKernel, operands: Mapping[str, Array]) -> dict[str, Array]:
    """The operands as the kernel takes them."""
    weights = operands["weights"]
    bias = kernel.bias(operands["bias"], weights)
    return {**operands, "weights": kernel.pack(weights), "bias": bias}


@lru_cache(maxsize=8)
def trial_data(workload: ConvWorkload) -> tuple[dict[str, Array], Array]:
    """Random operands in the order of a kernel's signature, OIHW weights, and the memory of ``y``.

    What lies between the pixels of ``y`` stays as it was.
    """
    rng = np.random.default_rng(0)
    w, e = workload, workload.epilogue
    assert isinstance(e, Epilogue)
    depthwise = isinstance(w, DepthwiseWorkload)
    inputs = 1 if depthwise else w.x.channels
    x = rng.integers(0, 256, w.x.span + SLACK).astype(np.uint8)
    weights = rng.integers(-128, 128, (w.y.channels, inputs, *w.kernel)).astype(np.int8)
    spread = 4e-2 / np.sqrt(inputs * w.kernel[0] * w.kernel[1])
    data: dict[str, Array] = {
        "x": x,
        "weights": weights,
        "bias": rng.integers(-3000, 3000, w.y.channels).astype(np.int32),
        "multiplier": (rng.random(w.y.channels) * spread).astype(np.float32),
    }
    if w.residual is not None:
        data["residual"] = rng.integers(0, 256, w.residual.span).astype(np.uint8)
    if e.table:
        data["table"] = rng.permutation(256).astype(np.uint8)
    want = np.full(w.y.span, _UNTOUCHED, np.uint8).astype(w.y.dtype)
    _window(want, w.y)[:] = _reference(workload, data)
    return data, want


def _reference(workload: ConvWorkload, data: Mapping[str, Array]) -> Array:
    """``[height, width, channels]`` by the integer op that the workload is made from."""
    w, e = workload, workload.epilogue
    assert isinstance(e, Epilogue)
    residual = None
    if (r := e.residual) is not None:
        residual = integer.Residual(r.multiplier, r.shift, r.constant)
    epilogue = integer.Epilogue(e.dtype, e.zero_point, e.low, e.high, residual, e.table)
    depthwise = isinstance(w, DepthwiseWorkload)
    op = integer.QConv(
        strides=w.strides, dilations=w.dilations, group=w.y.channels if depthwise else 1,
        epilogue=epilogue,
    )  # fmt: skip
    sizes = zip((w.y.height, w.y.width), w.strides, w.kernel, w.dilations, strict=True)
    height, width = ((n - 1) * s + (k - 1) * d + 1 for n, s, k, d in sizes)
    operands = [_first(_window(data["x"], w.x)[:height, :width])]
    operands += [data[name] for name in ("weights", "bias", "multiplier")]
    if w.residual is not None:
        operands.append(_first(_window(data["residual"], w.residual)))
    if e.table:
        operands.append(data["table"])
    (result,) = op.eval(operands)
    return np.asarray(result[0].transpose(1, 2, 0))


def _first(image: Array) -> Array:
    """``[H, W, C]`` as ``[1, C, H, W]``."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))[None]


def _window(flat: Array, view: View) -> Array:
    """The pixels of a view."""
    size = flat.itemsize
    strides = (view.row_stride * size, view.pixel_stride * size, size)
    shape = (view.height, view.width, view.channels)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)
