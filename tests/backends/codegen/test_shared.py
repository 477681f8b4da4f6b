"""Layers of one shape are one kernel, also where their weights take another number of visits."""

from pathlib import Path

import pytest

pytest.importorskip("tvm")

from compiled import compile_all
from networks import Net
from test_exactness import check

from qc.backends.codegen.lower import lower
from qc.backends.codegen.template import TemplateKernel, shared
from qc.ir.ops import integer
from qc.targets import load

X86 = load("x86")


def layers(net: Net) -> None:
    """Two of small weights, of which one has a few that are large, and one of large weights."""
    x = net.codes(1, 16, 12, 12)
    for net.bits, few in ((5, 1), (5, 4), (8, 1)):
        x = net.conv(x, 16)
        weights = x.producer.operands[1].data
        weights[::2, ::2] *= few
    net.out(x)


def test_one_kernel_whatever_the_weights(tmp_path: Path) -> None:
    net = Net()
    layers(net)
    program = lower(net.graph, X86.features)
    kernels = [k for k in program.kernels.values() if isinstance(k, TemplateKernel)]
    assert [k.name for k in kernels] == ["avx2-short", "avx2-short", "avx2"]
    few, many, _ = kernels
    assert few.workload.visits < many.workload.visits
    assert few.knobs == many.knobs
    assert few.emit("k").function.script() == many.emit("k").function.script()
    made = shared(program)
    left = [k for k in made.kernels.values() if isinstance(k, TemplateKernel)]
    assert left == [few, kernels[2]]
    symbols = [c.symbol for c in made.calls if isinstance(made.kernels[c.symbol], TemplateKernel)]
    assert symbols[0] == symbols[1] != symbols[2]
    assert made.symbols == set(made.kernels)
    assert len(program.kernels) == len(made.kernels) + 1, "costs and tuning see all of them"
    compiled = compile_all("x86", {"layers": layers}, tmp_path / "out")
    check(compiled, "layers")


def test_one_kernel_for_all_tables_of_a_shape() -> None:
    net = Net()
    x = net.codes(1, 16, 6, 6)
    for scale in (0.1, 0.2, 0.3):
        x = net.add(integer.QTable(scale, 128), x, net.table())
    net.out(x)
    labels = [k.label for k in lower(net.graph, X86.features).kernels.values()]
    assert labels.count("qtable") <= 2, "the last one may write to the caller's memory"
