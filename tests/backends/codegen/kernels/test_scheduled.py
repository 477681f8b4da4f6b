"""The naive computation equals the reference, scheduled or not, and bad schedules are refused."""

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("tvm")

import tvm

from qc.backends.codegen.kernels import (
    ConvWorkload,
    DepthwiseWorkload,
    Epilogue,
    FloatEpilogue,
    Residual,
    View,
    has_plain,
    plain,
    scheduled,
)
from qc.backends.codegen.link import compiler
from qc.backends.codegen.template import TemplateKernel
from qc.backends.codegen.template import scheduled as kernel_of
from qc.backends.codegen.tuning.checked import Checked
from qc.backends.codegen.tuning.metaschedule import text_of
from qc.ir.errors import BackendError
from qc.targets import load

HOST = load("host")
NAIVE = "[[],[]]"
"""A trace without steps."""


def wide(height: int, width: int, channels: int, dtype: str = "uint8", extra: int = 16) -> View:
    """A window of a buffer with more channels and longer rows."""
    pixel = channels + extra
    return View(height, width, channels, (width + 3) * pixel, pixel, dtype)


def conv(
    kernel: tuple[int, int], stride: int = 1, epilogue: Epilogue | None = None, dilation: int = 1,
    depthwise: bool = False,
) -> ConvWorkload:  # fmt: skip
    """A small convolution between windows of larger buffers."""
    height, width, outputs = 4, 5, 32
    spans = [
        (n - 1) * stride + (k - 1) * dilation + 1
        for n, k in zip((height, width), kernel, strict=True)
    ]
    epilogue = epilogue or Epilogue("uint8", 7)
    y = wide(height, width, outputs, epilogue.dtype)
    make = DepthwiseWorkload if depthwise else ConvWorkload
    return make(
        wide(*spans, outputs if depthwise else 16), y, kernel, (stride, stride),
        (dilation, dilation), epilogue,
        wide(height, width, outputs, extra=0) if epilogue.residual else None,
    )  # fmt: skip


ADD = Epilogue("uint8", 0, 3, 250, Residual(multiplier=-91, shift=7, constant=9000))
WORKLOADS = {
    "plain": conv((3, 3)),
    "stride": conv((3, 2), stride=2),
    "dilated": conv((2, 3), dilation=2),
    "depthwise": conv((3, 3), depthwise=True),
    "depthwise_stride": conv((5, 5), stride=2, depthwise=True),
    "residual": conv((1, 1), epilogue=ADD),
    "residual_table": conv((1, 1), epilogue=replace(ADD, table=True)),
    "table": conv((1, 1), epilogue=Epilogue("uint8", 128, table=True)),
    "clipped": conv((1, 1), epilogue=Epilogue("uint8", 100, 100, 180)),
    "words": conv((1, 1), epilogue=Epilogue("uint16", 32768, 5, 65000)),
    "residual_words": conv((1, 1), epilogue=replace(ADD, dtype="uint16")),
    "floats": conv((1, 1), epilogue=Epilogue("float32")),
    "sums": conv((1, 1), epilogue=Epilogue("int32")),
    "joined": ConvWorkload(
        View.dense(3, 4, 16, "uint8"), View.dense(3, 4, 16, "uint8"), (1, 1), (1, 1), (1, 1),
        Epilogue("uint8"),
    ),
}  # fmt: skip


def check(kernel: TemplateKernel) -> int:
    """The extent of a kernel that was compiled, run and compared here."""
    return Checked(kernel, "qc_kernel", HOST.tvm(), tuple(compiler(HOST.link)))()[1]


def by_hand(workload: ConvWorkload, parallel: int = 0) -> str:
    """A schedule: the sum in the rows of the epilogue, and one loop in parallel."""
    schedule = tvm.s_tir.Schedule(tvm.IRModule({plain.NAME: plain.plain(workload)}))
    y = schedule.get_sblock("y")
    row, *_ = schedule.get_loops(y)
    schedule.compute_at(schedule.get_sblock("acc"), row)
    schedule.parallel(schedule.get_loops(y)[parallel])
    return text_of(schedule.trace)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_naive_computation_is_the_reference(name: str) -> None:
    workload = WORKLOADS[name]
    assert check(kernel_of(workload, HOST.features, NAIVE)) == 1


@pytest.mark.parametrize("name", ["plain", "depthwise_stride", "residual_table"])
def test_the_parallel_loop_is_the_range(name: str) -> None:
    workload = WORKLOADS[name]
    kernel = kernel_of(workload, HOST.features, by_hand(workload))
    assert kernel.fits
    assert check(kernel) == workload.y.height, "the kernel was run in two halves"


def test_a_trace_serves_workloads_that_differ_in_numbers() -> None:
    workload = WORKLOADS["plain"]
    other = replace(workload, epilogue=Epilogue("uint8", 0, 20, 200))
    assert check(kernel_of(other, HOST.features, by_hand(workload))) == workload.y.height


def test_a_wrong_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = plain.finished

    def wrong(epilogue: Epilogue, *operands: Any) -> Any:
        return right(replace(epilogue, zero_point=epilogue.zero_point + 1), *operands)

    monkeypatch.setattr(plain, "finished", wrong)
    workload = replace(WORKLOADS["plain"], epilogue=Epilogue("uint8", 9))
    with pytest.raises(BackendError, match=r"differs from the integer reference in \d+ of \d+"):
        check(kernel_of(workload, HOST.features, NAIVE))


def test_a_kernel_that_writes_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = conv((1, 2))
    y = replace(workload.y, row_stride=workload.y.row_stride - 16)
    shorter = replace(workload, y=y)
    monkeypatch.setattr(scheduled, "plain", lambda _: plain.plain(shorter))
    with pytest.raises(BackendError, match="differs"):
        check(kernel_of(workload, HOST.features, NAIVE))


@pytest.mark.parametrize(
    "trace",
    [
        "[[],[[]]]", "[]", '[[["NoSuchStep",[],[],[]]],[]]',
        '[[["GetSBlock",[],["nothing","main"],["b0"]]],[]]',
    ],
)  # fmt: skip
def test_traces_that_do_not_fit_are_no_kernels(trace: str) -> None:
    kernel = kernel_of(WORKLOADS["plain"], HOST.features, trace)
    assert not kernel.fits
    with pytest.raises(ValueError, match=r"the trace does not fit the workload: ."):
        kernel.emit("k")


def test_kernels_that_need_much_memory_are_none() -> None:
    big = replace(WORKLOADS["plain"], x=wide(66, 66, 16), y=wide(64, 64, 32))
    kernel = kernel_of(big, HOST.features, NAIVE)
    assert not kernel.fits
    with pytest.raises(ValueError, match="needs 524288 bytes of stack, 65536 at most"):
        kernel.emit("k")


def test_only_the_outermost_loop_may_be_parallel() -> None:
    workload = WORKLOADS["plain"]
    kernel = kernel_of(workload, HOST.features, by_hand(workload, parallel=1))
    with pytest.raises(ValueError, match="parallel loop that is not the outermost"):
        kernel.emit("k")


def test_sums_of_reals_have_no_schedules() -> None:
    real = View.dense(4, 4, 16, "float32")
    workload = ConvWorkload(real, real, (1, 1), (1, 1), (1, 1), FloatEpilogue())
    assert not has_plain(workload)
    assert has_plain(WORKLOADS["plain"])


def test_a_trace_says_how_long_it_is() -> None:
    trace = by_hand(WORKLOADS["plain"])
    kernel = kernel_of(WORKLOADS["plain"], HOST.features, trace)
    assert kernel.knobs.steps == len(json.loads(trace)[0]) > 3
    assert 0 < kernel.cost < float("inf")
