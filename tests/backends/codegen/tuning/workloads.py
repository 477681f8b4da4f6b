"""Workloads of the tuner's tests."""

from qc.backends.codegen.kernels import ConvWorkload, Epilogue, View
from qc.backends.codegen.tuning.records import Setting
from qc.targets import load

SETTING = Setting.of(load("x86"))


def pointwise(pixels: int = 8, channels: int = 64) -> ConvWorkload:
    """A 1x1 convolution of 7 rows of ``pixels``."""
    view = View.dense(7, pixels, channels, "uint8")
    return ConvWorkload(view, view, (1, 1), (1, 1), (1, 1), Epilogue("uint8"))
