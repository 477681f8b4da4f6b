"""A packed layer becomes one per part, where that says the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, network, random_feed

from qc.ir import Graph, Value, evaluate
from qc.ir.ops import Split
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.measure import relative_difference
from qc.passes.split_layers import SplitLayers


def split(graph: Graph) -> tuple[Graph, int]:
    work = graph.copy()
    found = SplitLayers().apply(work, Context())
    verify(work)
    return work, int(found["rewrites"])


def apart(graph: Graph, other: Graph) -> float:
    feed = random_feed(graph, np.random.default_rng(0))
    before, after = evaluate(graph, feed), evaluate(other, feed)
    assert list(before) == list(after)
    return relative_difference([*before.values()], [*after.values()])


def packed(b: Builder, axis: int = -1) -> tuple[Value, ...]:
    """A product of 3 + 4 columns, and its parts."""
    y = b.op("MatMul", b.x, b.normal(6, 7))
    sizes = (3, 4) if axis in (-1, 2) else (2, 3)
    return b.graph.add(Split(axis, sizes), [y], names=["left", "right"]).outputs


@pytest.mark.parametrize("axis", [-1, 2])
def test_every_part_gets_a_layer(axis: int) -> None:
    b = Builder((1, 5, 6))
    left, right = packed(b, axis)
    graph = b.done(b.op("Relu", left), right)
    work, count = split(graph)
    assert count == 1
    assert [n.op.name for n in work.nodes] == ["MatMul", "MatMul", "Relu"]
    assert [n.operands[1].shape for n in work.nodes[:2]] == [(6, 3), (6, 4)]
    assert apart(graph, work) <= 1e-6


def test_biases_are_split_too() -> None:
    b = Builder((5, 6))
    y = b.op("Gemm", b.x, b.normal(6, 7), b.normal(7))
    graph = b.done(*b.graph.add(Split(1, (3, 4)), [y]).outputs)
    work, count = split(graph)
    assert count == 1
    assert [n.operands[2].shape for n in work.nodes] == [(3,), (4,)]
    assert apart(graph, work) <= 1e-6


@pytest.mark.parametrize("case", ["axis", "reader", "output", "not constant"])
def test_others_are_left_alone(case: str) -> None:
    b = Builder((1, 5, 6))
    if case == "not constant":
        y = b.op("MatMul", b.x, b.op("Transpose", b.x, perm=(0, 2, 1)))
        parts = b.graph.add(Split(2, (2, 3)), [y]).outputs
    else:
        parts = packed(b, 1 if case == "axis" else -1)
    whole = parts[0].producer.operands[0]
    more = [whole] if case == "output" else []
    more += [b.op("Relu", whole)] if case == "reader" else []
    graph = b.done(*parts, *more)
    work, count = split(graph)
    assert count == 0
    assert str(work) == str(graph)


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
def test_a_mamba() -> None:
    graph = network("mamba_shakespeare_scan")
    work, count = split(graph)
    assert count == 6  # per layer: into states and gates, into delta, B and C
    assert not [n for n in work.nodes if n.op.name == "Split"]
    assert apart(graph, work) <= 1e-5
