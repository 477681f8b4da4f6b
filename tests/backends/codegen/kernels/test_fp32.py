"""float32 convolutions against numpy."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.kernels import ConvWorkload, DepthwiseWorkload, FloatEpilogue, View
from qc.backends.codegen.kernels.depthwise_fp32 import DepthwiseFloat, FloatColumnsKnobs
from qc.backends.codegen.kernels.fp32 import fp32
from qc.backends.codegen.kernels.neon import Neon
from qc.backends.codegen.kernels.x86 import X86

FREE = FloatEpilogue()


def conv(
    size: tuple[int, int],
    channels: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    epilogue: FloatEpilogue = FREE,
    extra: int = 0,
) -> ConvWorkload:
    """A convolution between slices of buffers with ``extra`` more channels."""

    def view(height: int, width: int, channels: int) -> View:
        pixel = channels + extra
        return View(height, width, channels, width * pixel, pixel, "float32")

    height, width = ((n - 1) * stride + kernel for n in size)
    x, y = view(height, width, channels), view(*size, outputs)
    return ConvWorkload(x, y, (kernel, kernel), (stride, stride), (1, 1), epilogue)


WORKLOADS = {
    "pointwise": conv((5, 9), 32, 48),
    "conv3": conv((5, 9), 16, 32, 3, epilogue=FloatEpilogue(low=0.0)),
    "conv3_stride2": conv((5, 3), 32, 80, 3, 2, FloatEpilogue(0.0, 6.0), extra=16),
    "rgb": conv((6, 7), 3, 32, 3, 2),
    "gemv": conv((1, 1), 96, 1008),
}
TEMPLATES: dict[str, tuple[Any, str, str]] = {
    "avx512": (fp32(X86(16), 28), "skylake-avx512", "avx512f"),
    "avx2": (fp32(X86(8), 12), "haswell", "fma"),
    "neon": (fp32(Neon(), 24), "cortex-a53", "qemu cortex-a53"),
}
CASES: dict[str, Any] = {
    f"{isa}_{name}": (template, workload, mcpu, flag)
    for isa, (template, mcpu, flag) in TEMPLATES.items()
    for name, workload in WORKLOADS.items()
}


DEPTHWISE = {
    "plain": DepthwiseWorkload(**vars(conv((5, 9), 48, 48, 3))),
    "stride2": DepthwiseWorkload(**vars(conv((4, 5), 32, 32, 3, 2, FloatEpilogue(0.0, 6.0), 16))),
    "five": DepthwiseWorkload(**vars(conv((3, 4), 16, 16, 5))),
    "dilated": replace(
        DepthwiseWorkload(**vars(conv((3, 4), 32, 32, 5, epilogue=FloatEpilogue(low=0.0)))),
        kernel=(3, 3), dilations=(2, 2),
    ),
    "narrow": DepthwiseWorkload(**vars(conv((2, 1), 64, 64, 3))),
}  # fmt: skip
FLOAT_COLUMNS: dict[str, tuple[Any, str, str]] = {
    "avx512": (DepthwiseFloat(X86(16), 32), "skylake-avx512", "avx512f"),
    "avx2": (DepthwiseFloat(X86(8), 16), "haswell", "fma"),
    "neon": (DepthwiseFloat(Neon(), 32), "cortex-a53", "qemu cortex-a53"),
}
CASES |= {
    f"{isa}_depthwise_{name}": (template, workload, mcpu, flag)
    for isa, (template, mcpu, flag) in FLOAT_COLUMNS.items()
    for name, workload in DEPTHWISE.items()
}
CASES["avx2_depthwise_tail"] = (*FLOAT_COLUMNS["avx2"][:1], DEPTHWISE["plain"],
                                *FLOAT_COLUMNS["avx2"][1:], FloatColumnsKnobs(2, 4))  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_close_to_numpy(name: str, library: Any) -> None:
    library.check(name)


@pytest.mark.parametrize(("isa", "register"), [("avx512", "%zmm"), ("avx2", "%ymm")])
def test_instructions(isa: str, register: str, assembly: Any) -> None:
    template, mcpu, flag = TEMPLATES[isa]
    text = assembly((template, WORKLOADS["conv3"], mcpu, flag))
    assert "vfmadd" in text
    assert register in text
    assert isa == "avx512" or "%zmm" not in text
