"""A packed layer becomes one per part, where that says the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, network, random_feed

from qc.ir import Graph, Value, evaluate
from qc.ir.coupling import Action, Heads, Sites
from qc.ir.coupling import heads as heads_of
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


def heads_in(graph: Graph) -> list[Heads]:
    return list(heads_of(Sites(graph, Action.SCALE)))


def heads(b: Builder, order: str, how: str) -> list[Value]:
    """Queries, keys and values of 2 heads of 4 channels, packed in this order of axes."""
    sizes = {"3": 3, "h": 2, "d": 4}
    y = b.op("Gemm", b.x, b.normal(6, 24), b.normal(24))
    at = 2 + order.index("3")
    shape = (1, 5, *(sizes[c] for c in order))
    v = b.op("Reshape", y, shape=shape)
    if how == "split":
        return list(b.graph.add(Split(at, (1, 1, 1)), [v]).outputs)
    rest = [k for k in range(5) if k != at]
    v = b.op("Transpose", v, perm=(at, *rest))
    numbers = [b.graph.constant(np.asarray(i, np.int64), "i") for i in (0, 1, -1)]
    return [b.op("Gather", v, i, axis=0) for i in numbers]


@pytest.mark.parametrize("how", ["split", "picked"])
@pytest.mark.parametrize("order", ["3hd", "h3d", "hd3"])
def test_heads_are_split(order: str, how: str) -> None:
    b = Builder((1, 5, 6))
    q, k, v = heads(b, order, how)
    graph = b.done(b.op("Mul", q, k), b.op("Relu", v))
    work, count = split(graph)
    assert count == 1
    layers = [n for n in work.nodes if n.op.name == "Gemm"]
    assert [n.operands[1].shape for n in layers] == [(6, 8)] * 3
    assert not {"Gather", "Split"} & {n.op.name for n in work.nodes}
    assert apart(graph, work) <= 1e-6


@pytest.mark.parametrize("case", ["batch", "data", "whole", "axes"])
def test_views_that_are_no_parts_are_left_alone(case: str) -> None:
    b = Builder((2, 3, 4))
    y = b.op("MatMul", b.x, b.normal(4, 6))
    view = b.op("Reshape", y, shape=(2, 3, 2, 3))
    axis = 0 if case == "batch" else 2
    index = [b.graph.constant(np.asarray(i, np.int64), "i") for i in (0, 1)]
    if case == "data":
        index[1] = b.op("Cast", b.op("Relu", b.op("ReduceMin", b.x, keepdims=False)), to="int64")
    parts = [b.op("Gather", view, i, axis=axis) for i in index]
    if case == "whole":
        parts.append(view)
    if case == "axes":
        parts.append(b.op("Gather", view, index[0], axis=3))
    graph = b.done(*parts)
    work, count = split(graph)
    assert count == 0
    assert list(map(str, work.nodes)) == list(map(str, graph.nodes))


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize("name", ["vit_cifar10", "vit_cifar10_outliers"])
def test_a_vit_gets_sites_from_values_to_projections(name: str) -> None:
    graph = network(name)
    assert not heads_in(graph)
    work, count = split(graph)
    assert count == 6
    assert [one.shape for one in heads_in(work)] == [(4, 32)] * 12  # and q against k
    assert apart(graph, work) <= 1e-5


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
def test_a_mamba() -> None:
    graph = network("mamba_shakespeare_scan")
    work, count = split(graph)
    assert count == 6  # per layer: into states and gates, into delta, B and C
    assert not [n for n in work.nodes if n.op.name == "Split"]
    assert apart(graph, work) <= 1e-5
