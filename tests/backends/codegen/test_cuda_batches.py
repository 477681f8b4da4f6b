"""Calls for the samples of a batch become one launch, and no others do."""

from dataclasses import dataclass, replace

import pytest

pytest.importorskip("tvm")

from networks import ISLANDS, LAYERS, OTHERS, Net

from qc.backends.codegen.buffer import Buffer, Storage
from qc.backends.codegen.cuda.batches import Batch, batched
from qc.backends.codegen.kernels import ConvWorkload, Epilogue, View
from qc.backends.codegen.lower import lower
from qc.backends.codegen.program import Emitted, Pointer, Program
from qc.backends.codegen.template import TemplateKernel, by_estimate
from qc.targets import load
from qc.tuning import workloads_of


@dataclass(frozen=True)
class Some:
    """A kernel that is never compiled."""

    label: str = "some"

    def emit(self, name: str) -> Emitted:
        raise AssertionError(name)


CUDA = load("cuda")
X, Y, Z = (Buffer(name, 1000) for name in "xyz")
W = Buffer("w", 8, Storage.CONSTANT)


def program(*calls: tuple[str, int, int], last: Buffer = Y) -> Program:
    """Calls (node, offset into x, offset into y) of one kernel."""
    made = Program()
    for node, x, y in calls:
        made.call(Some(), (Pointer(X, x), Pointer(W), Pointer(W), Pointer(last, y)), node)
    return made


def test_equal_steps_are_joined() -> None:
    made = batched(program(("a", 0, 64), ("a", 128, 96), ("a", 256, 128), ("b", 0, 0)))
    assert [made.kernels[c.symbol] for c in made.calls] == [
        Batch(Some(), 3, (128, 0, 0, 32)),
        Some(),
    ]
    assert made.calls[0].pointers == (Pointer(X), Pointer(W), Pointer(W), Pointer(Y, 64))


def test_steps_decide_which_kernels_are_the_same() -> None:
    made = batched(
        program(("a", 0, 0), ("a", 8, 4), ("b", 0, 0), ("b", 8, 4), ("c", 0, 0), ("c", 8, 8))
    )
    assert [c.symbol for c in made.calls] == ["qc_0_some", "qc_0_some", "qc_1_some"]
    assert len(made.kernels) == 2


@pytest.mark.parametrize(
    ("calls", "last"),
    [
        ([("a", 0, 0), ("b", 8, 4)], Y),  # another node
        ([("a", 0, 0), ("a", 0, 0)], Y),  # the same sample
        ([("a", 0, 500), ("a", 8, 508)], X),  # reads what it writes
    ],
)
def test_what_is_not_joined(calls: list[tuple[str, int, int]], last: Buffer) -> None:
    made = batched(program(*calls, last=last))
    assert len(made.calls) == 2
    assert set(made.kernels.values()) == {Some()}


def test_uneven_steps_begin_again() -> None:
    made = batched(program(("a", 0, 0), ("a", 8, 4), ("a", 24, 8), ("a", 32, 12)))
    steps = [k.steps for k in made.kernels.values() if isinstance(k, Batch)]
    assert len(made.calls) == 2
    assert steps == [(8, 0, 0, 4)]


def test_what_is_done_once_stays() -> None:
    made = program(("a", 0, 0))
    made.call(Some("border"), (Pointer(Z),), "a", once=True)
    after = batched(made)
    assert after.once == made.once
    assert after.kernels[made.once[0].symbol] == Some("border")


def test_workloads_know_what_is_launched_together() -> None:
    """Of every convolution and product in the tests' networks."""
    net = Net()
    for network in {**LAYERS, **OTHERS, **ISLANDS}.values():
        network(net)
    made = batched(lower(net.graph, CUDA.features))
    launched = [made.kernels[call.symbol] for call in made.calls]
    found = set()
    for kernel in launched:
        one, samples = (kernel.kernel, kernel.samples) if isinstance(kernel, Batch) else (kernel, 1)
        if isinstance(one, TemplateKernel):
            assert one.workload.samples == samples, one
            found.add(samples)
    assert {1, 2} <= found


def test_a_batch_that_fills_the_device_is_estimated_to_like_larger_tiles() -> None:
    x, y = View.dense(7, 7, 160, "uint8"), View.dense(7, 7, 960, "uint8")
    one = ConvWorkload(x, y, (1, 1), (1, 1), (1, 1), Epilogue("uint8"))
    few, many = (by_estimate(replace(one, samples=n), CUDA.features).knobs for n in (1, 64))
    assert few.rows * few.columns < many.rows * many.columns
    assert few.warps > many.warps


def test_a_launch_of_all_samples_is_one_call_to_tune() -> None:
    net = Net()
    net.out(net.conv(net.codes(5, 16, 6, 6), 32))
    (kernel,) = workloads_of(net.graph, CUDA)
    assert (kernel.workload.samples, workloads_of(net.graph, CUDA)[kernel]) == (5, 1)
    assert [*workloads_of(net.graph, load("x86")).values()] == [5], "on a cpu a call is a sample"
