"""Depthwise convolutions against numpy, bit by bit."""

from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.kernels import (
    ConvWorkload,
    DepthwiseWorkload,
    Epilogue,
    Residual,
    View,
)
from qc.backends.codegen.kernels.arm import depthwise_sdot, depthwise_usdot
from qc.backends.codegen.kernels.depthwise import Depthwise
from qc.backends.codegen.kernels.depthwise_columns import DepthwiseColumns
from qc.backends.codegen.kernels.depthwise_plan import DepthwiseKnobs
from qc.backends.codegen.kernels.x86 import X86

U8 = Epilogue("uint8", 7, 0, 255)


def depthwise(
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    epilogue: Epilogue = U8,
    extra: int = 0,
) -> DepthwiseWorkload:
    """Between slices of buffers with ``extra`` more channels; ``size`` is of the output."""
    axes = zip(size, kernel, stride, dilation, strict=True)
    height, width = ((n - 1) * s + (k - 1) * d + 1 for n, k, s, d in axes)

    def view(height: int, width: int, dtype: str) -> View:
        pixel = channels + extra
        return View(height, width, channels, width * pixel, pixel, dtype)

    y, residual = view(*size, epilogue.dtype), view(*size, "uint8")
    return DepthwiseWorkload(
        view(height, width, "uint8"),
        y,
        kernel,
        stride,
        dilation,
        epilogue,
        residual if epilogue.residual else None,
    )


ADD = Epilogue("uint8", 0, 3, 250, Residual(multiplier=91, shift=7, constant=-9000))
WORKLOADS: dict[str, DepthwiseWorkload] = {
    "dw3": depthwise((9, 13), 112),
    "dw3_stride2": depthwise((7, 9), 112, stride=(2, 2)),
    "dw3_slices": depthwise((6, 5), 80, extra=48),
    "dw3_small": depthwise((1, 1), 64),
    "dw3_two_rows": depthwise((2, 3), 48),
    "dw3_five_rows": depthwise((5, 4), 16),
    "dw3_dilated": depthwise((5, 6), 48, dilation=(2, 2)),
    "dw3_dilated_stride2": depthwise((5, 6), 16, stride=(2, 2), dilation=(2, 2)),
    "dw3_mixed": depthwise((6, 5), 32, stride=(2, 1), dilation=(1, 3)),
    "dw5": depthwise((9, 7), 64, (5, 5)),
    "dw5_stride2": depthwise((5, 7), 64, (5, 5), stride=(2, 2)),
    "dw7": depthwise((4, 5), 16, (7, 7)),
    "dw_row": depthwise((5, 9), 32, (1, 5)),
    "dw_column": depthwise((5, 9), 32, (10, 1)),
    "dw_pointwise": depthwise((5, 5), 64, (1, 1), stride=(2, 2)),
    "low_zero": depthwise((4, 5), 64, epilogue=Epilogue("uint8", 0, 0, 255)),
    "high_zero": depthwise((4, 5), 64, epilogue=Epilogue("uint8", 255, 10, 255)),
    "residual": depthwise((5, 5), 96, epilogue=ADD, extra=16),
    "residual_table": depthwise((5, 5), 48, epilogue=replace(ADD, table=True)),
    "table": depthwise((5, 5), 64, epilogue=replace(U8, table=True)),
    "words": depthwise((5, 5), 80, epilogue=Epilogue("uint16", 30000, 5, 65000)),
    "floats": depthwise((5, 5), 48, epilogue=Epilogue("float32")),
    "sums": depthwise((5, 5), 96, epilogue=Epilogue("int32")),
}
EXTREME = {"overflow": depthwise((4, 5), 64, epilogue=Epilogue("uint8", 255, 0, 255))}
TEMPLATES: dict[str, tuple[Any, str, str]] = {
    "vnni": (Depthwise(16, partial(X86, vbmi=True)), "icelake-server", "avx512vbmi"),
    "avx_vnni": (Depthwise(8, X86), "alderlake", "avx_vnni"),
    "avx2": (Depthwise(8, X86, dots=False), "haswell", "avx2"),
    "neon": (DepthwiseColumns(), "cortex-a53", "qemu cortex-a53"),
    "sdot": (depthwise_sdot(), "cortex-a76", "qemu cortex-a76"),
    "usdot": (depthwise_usdot(), "neoverse-n2", "qemu max"),
}
SHORT = {
    "avx_vnni": ("dw3_slices", "table"),
    "usdot": ("dw3_slices", "residual_table", "words"),
    "avx2": (
        "dw3",
        "dw3_stride2",
        "dw3_dilated",
        "dw5",
        "dw_column",
        "high_zero",
        "residual",
        "residual_table",
        "words",
        "floats",
        "overflow",
    ),
}
CASES = {
    f"{isa}_{name}": (template, workload, mcpu, flag, None, name in EXTREME)
    for isa, (template, mcpu, flag) in TEMPLATES.items()
    for name, workload in (WORKLOADS | EXTREME).items()
    if name in SHORT.get(isa, (name,))
} | {
    "unrolled_1": (
        *TEMPLATES["vnni"][:1],
        WORKLOADS["dw3"],
        *TEMPLATES["vnni"][1:],
        DepthwiseKnobs(1),
    ),
    "neon_pixels": (
        *TEMPLATES["neon"][:1],
        WORKLOADS["dw3_stride2"],
        *TEMPLATES["neon"][1:],
        DepthwiseKnobs(2),
    ),
    "unrolled_3": (
        *TEMPLATES["vnni"][:1],
        WORKLOADS["dw3"],
        *TEMPLATES["vnni"][1:],
        DepthwiseKnobs(3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(name: str, library: Any) -> None:
    library.check(name)


@pytest.mark.parametrize(
    ("isa", "wanted", "unwanted"),
    [
        ("vnni", ["vpdpbusd", "%zmm", "vpackuswb"], ["vpmaddubsw"]),
        ("avx_vnni", ["vpdpbusd", "%ymm"], ["%zmm"]),
        ("avx2", ["vpmaddwd", "%ymm"], ["%zmm", "vpdpbusd", "vpmaddubsw"]),
        ("neon", ["smlal", "smlal2", "sqxtun"], ["sdot"]),
        ("sdot", ["\tsdot", "zip1"], ["usdot", "smlal"]),
        ("usdot", ["usdot"], ["\tsdot"]),
    ],
)
def test_instructions(isa: str, wanted: list[str], unwanted: list[str], assembly: Any) -> None:
    template, mcpu, flag = TEMPLATES[isa]
    text = assembly((template, WORKLOADS["dw3"], mcpu, flag))
    assert [word for word in wanted if word not in text] == []
    assert [word for word in unwanted if word in text] == []


def test_workload_is_a_conv_workload() -> None:
    names = [field.name for field in fields(DepthwiseWorkload)]
    assert names == [field.name for field in fields(ConvWorkload)]
