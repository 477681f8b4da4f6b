"""Integer convolutions of every instruction set against numpy, bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.kernels import ConvWorkload, Epilogue, Residual, View
from qc.backends.codegen.kernels.amx import Amx, AmxKnobs
from qc.backends.codegen.kernels.arm import neon, sdot, usdot
from qc.backends.codegen.kernels.avx2 import avx2, avx2_narrow
from qc.backends.codegen.kernels.avx2_short import ShortConv, ShortKnobs, counted
from qc.backends.codegen.kernels.register_tile import RegisterKnobs
from qc.backends.codegen.kernels.smmla import PairKnobs, Smmla
from qc.backends.codegen.kernels.vnni import avx_vnni, vnni

U8 = Epilogue("uint8", 7, 0, 255)


def conv(
    size: tuple[int, int],
    channels: int,
    outputs: int,
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    dilation: int = 1,
    epilogue: Epilogue = U8,
) -> ConvWorkload:
    """A convolution between dense buffers; ``size`` is of the output."""
    spans = [(n - 1) * stride + (k - 1) * dilation + 1 for n, k in zip(size, kernel, strict=True)]
    x = View.dense(*spans, channels, "uint8")
    y = View.dense(*size, outputs, epilogue.dtype)
    residual = View.dense(*size, outputs, "uint8") if epilogue.residual else None
    strides, dilations = (stride, stride), (dilation, dilation)
    return ConvWorkload(x, y, kernel, strides, dilations, epilogue, residual)


def slices(workload: ConvWorkload, extra: int) -> ConvWorkload:
    """The same between slices of buffers which have ``extra`` more channels and wider rows."""

    def widen(view: View) -> View:
        pixel = view.channels + extra
        return replace(
            view, pixel_stride=pixel, row_stride=view.row_stride // view.channels * pixel
        )

    residual = widen(workload.residual) if workload.residual else None
    return replace(workload, x=widen(workload.x), y=widen(workload.y), residual=residual)


ADD = Epilogue("uint8", 0, 3, 250, Residual(multiplier=-91, shift=7, constant=9000))
TABLE = Epilogue("uint8", 128, 0, 255, table=True)
WORKLOADS: dict[str, ConvWorkload] = {
    "pointwise": conv((5, 9), 32, 48),
    "pointwise_wide": conv((14, 14), 96, 176),
    "pointwise_stride2": conv((5, 7), 48, 16, stride=2),
    "pointwise_slices": slices(conv((7, 7), 32, 64), 16),
    "conv3": conv((13, 13), 16, 32, (3, 3)),
    "conv3_stride2": conv((6, 11), 32, 80, (3, 3), stride=2),
    "conv3_dilated": conv((7, 6), 16, 16, (3, 3), dilation=2),
    "conv3_slices": slices(conv((9, 17), 48, 32, (3, 3)), 32),
    "conv3_narrow": conv((9, 2), 16, 16, (3, 3)),
    "conv5": conv((4, 5), 16, 48, (5, 5)),
    "rgb7_stride2": conv((8, 15), 3, 96, (7, 7), stride=2),
    "rgb3": conv((6, 20), 3, 32, (3, 3), stride=2),
    "speech": conv((5, 5), 1, 64, (10, 4), stride=2),
    "global": conv((1, 1), 32, 64, (7, 7)),
    "gemv": conv((1, 1), 64, 1008),
    "gemm": conv((1, 5), 400, 64),
    "low_zero": conv((3, 33), 32, 32, epilogue=Epilogue("uint8", 0, 0, 255)),
    "high_zero": conv((3, 33), 32, 32, epilogue=Epilogue("uint8", 255, 0, 255)),
    "clipped": conv((3, 9), 32, 48, epilogue=Epilogue("uint8", 100, 100, 180)),
    "residual": conv((5, 9), 32, 80, epilogue=ADD),
    "residual_slices": slices(conv((5, 9), 32, 48, (3, 3), epilogue=ADD), 16),
    "table": conv((3, 11), 32, 80, epilogue=TABLE),
    "residual_table": conv((3, 3), 32, 16, epilogue=replace(ADD, table=True)),
    "words": conv((3, 7), 32, 48, epilogue=Epilogue("uint16", 32768, 5, 65000)),
    "residual_words": conv((3, 7), 32, 16, epilogue=replace(ADD, dtype="uint16")),
    "floats": conv((3, 7), 32, 48, epilogue=Epilogue("float32")),
    "sums": conv((3, 7), 32, 48, epilogue=Epilogue("int32")),
}
EXTREME = {
    "overflow_bytes": conv((3, 9), 32, 48, epilogue=Epilogue("uint8", 255, 0, 255)),
    "overflow_words": conv((3, 9), 32, 48, epilogue=Epilogue("uint16", 1000, 0, 65535)),
}
TEMPLATES: dict[str, tuple[Any, str, str]] = {
    "vnni": (vnni(True), "icelake-server", "avx512vbmi"),
    "vnni_novbmi": (vnni(), "cascadelake", "avx512_vnni"),
    "amx": (Amx(True), "sapphirerapids", "amx_int8"),
    "avx2": (avx2(), "haswell", "avx2"),
    "avx2_narrow": (avx2_narrow(), "haswell", "avx2"),
    "avx2_short": (ShortConv(), "haswell", "avx2"),
    "avx_vnni": (avx_vnni(), "alderlake", "avx_vnni"),
    "sdot": (sdot(), "cortex-a76", "qemu cortex-a76"),
    "usdot": (usdot(), "neoverse-n2", "qemu max"),
    "smmla": (Smmla(), "neoverse-n2", "qemu max"),
    "neon": (neon(), "cortex-a53", "qemu cortex-a53"),
}
SHORT = {
    "smmla": tuple(name for name, w in (WORKLOADS | EXTREME).items() if w.y.width >= 2),
    "vnni_novbmi": ("table", "conv3"),
    "avx_vnni": ("table", "conv3_stride2"),
    "usdot": ("conv3_stride2", "speech", "residual_table", "overflow_words"),
    "avx2_narrow": ("conv3_dilated", "speech", "gemv", "gemm", "residual_table", "overflow_words"),
    "avx2": (
        "pointwise_stride2",
        "conv3",
        "conv3_stride2",
        "conv3_slices",
        "conv3_dilated",
        "rgb7_stride2",
        "speech",
        "gemv",
        "high_zero",
        "residual_slices",
        "residual_table",
        "words",
        "floats",
        "overflow_bytes",
    ),
}


def _cases() -> dict[str, tuple[Any, ...]]:
    cases = {}
    for isa, (template, mcpu, flag) in TEMPLATES.items():
        for name, workload in (WORKLOADS | EXTREME).items():
            if name in SHORT.get(isa, (name,)):
                extreme, known = name in EXTREME, _known(isa, workload)
                cases[f"{isa}_{name}"] = (template, known, mcpu, flag, None, extreme)
    for isa in ("avx2_short", "avx2"):
        template, mcpu, flag = TEMPLATES[isa]
        for name in ("pointwise", "conv3_stride2", "rgb3", "gemm", "sums"):
            known = _known(isa, WORKLOADS[name])
            cases[f"{isa}_{name}_saturated"] = (template, known, mcpu, flag, None, False, True)
    return cases


def _known(isa: str, workload: ConvWorkload) -> ConvWorkload:
    """With the visits of weights of any size, where the template asks for them."""
    return replace(workload, visits=(24, 40)) if isa == "avx2_short" else workload


KNOBS: dict[str, tuple[str, str, Any]] = {
    "vnni_tail": ("vnni", "pointwise_wide", RegisterKnobs(5, 4)),
    "vnni_too_wide": ("vnni", "pointwise", RegisterKnobs(4, 6)),
    "vnni_pixels_first": ("vnni", "pointwise_wide", RegisterKnobs(6, 3, channels_first=False)),
    "avx2_tail": ("avx2", "conv3_stride2", RegisterKnobs(3, 4)),
    "avx2_narrow_tail": ("avx2_narrow", "pointwise_wide", RegisterKnobs(2, 4)),
    "avx2_short_fours": ("avx2_short", "conv3_stride2", ShortKnobs(5, 4)),
    "avx2_short_pixels_first": ("avx2_short", "pointwise_wide", ShortKnobs(9, 2, False)),
    "amx_tail": ("amx", "pointwise_wide", AmxKnobs(13, 2, 2)),
    "amx_columns": ("amx", "pointwise_wide", AmxKnobs(16, 4, 1, channels_first=False)),
    "amx_three": ("amx", "residual_slices", AmxKnobs(9, 1, 3)),
    "amx_six": ("amx", "pointwise_wide", AmxKnobs(7, 1, 6)),
    "sdot_tail": ("sdot", "pointwise_wide", RegisterKnobs(3, 4)),
    "smmla_small": ("smmla", "conv3_stride2", PairKnobs(2, 4)),
    "smmla_pixels_first": ("smmla", "pointwise_wide", PairKnobs(6, 16, channels_first=False)),
    "neon_pixels_first": ("neon", "conv3_stride2", RegisterKnobs(4, 3, channels_first=False)),
    "amx_slim": ("amx", "table", AmxKnobs(3, 3, 1)),
}
CASES = _cases() | {
    name: (TEMPLATES[isa][0], _known(isa, WORKLOADS[workload]), *TEMPLATES[isa][1:], knobs)
    for name, (isa, workload, knobs) in KNOBS.items()
}


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(name: str, library: Any) -> None:
    library.check(name)


@pytest.mark.parametrize(
    ("isa", "wanted", "unwanted"),
    [
        ("amx", ["tdpbusd", "ldtilecfg"], ["vpdpbusd"]),
        ("vnni", ["vpdpbusd", "%zmm"], ["tdpbusd", "vpmaddubsw"]),
        ("avx_vnni", ["vpdpbusd", "%ymm"], ["%zmm"]),
        ("avx2", ["vpmaddwd", "%ymm"], ["%zmm", "vpdpbusd", "vpmaddubsw"]),
        ("avx2_short", ["vpmaddubsw", "vpmaddwd", "%ymm"], ["%zmm", "vpdpbusd", "vpmovsxbw"]),
        ("avx2_narrow", ["vpmaddwd", "vpmovsxbw", "%ymm"], ["%zmm", "vpmaddubsw"]),
        ("sdot", ["sdot", "fcvtns", "sqxtun"], ["usdot", "smmla", "smlal"]),
        ("usdot", ["sudot"], ["\tsdot", "smlal"]),
        ("smmla", ["usmmla", "sqxtun"], ["udot", "smlal"]),
        ("neon", ["smull", "smlal", "sadalp"], ["sdot", "smmla"]),
    ],
)
def test_instructions(isa: str, wanted: list[str], unwanted: list[str], assembly: Any) -> None:
    template, mcpu, flag = TEMPLATES[isa]
    text = assembly((template, _known(isa, WORKLOADS["conv3"]), mcpu, flag))
    assert [word for word in wanted if word not in text] == []
    assert [word for word in unwanted if word in text] == []


def test_a_sample_has_the_visits_of_the_weights() -> None:
    """Sums of 16 bits take as long as their weights say: a kernel is timed with as many visits."""
    template, workload = ShortConv(), WORKLOADS["conv3_slices"]
    rng = np.random.default_rng(0)
    weights = np.rint(rng.standard_normal((32, 48, 3, 3)) * 40).clip(-127, 127).astype(np.int8)
    known = counted(workload, weights)
    assert 16 < known.visits[0] < known.visits[1]
    for knobs in (ShortKnobs(4, 2), ShortKnobs(4, 4)):
        packed = template.pack(weights, known, knobs).nbytes
        assert template.sample(known, knobs).nbytes == pytest.approx(packed, rel=0.05)
        more = replace(known, visits=tuple(2 * v for v in known.visits))
        assert template.sample(more, knobs).nbytes == pytest.approx(2 * packed, rel=0.05)
