"""Batch normalization folds exactly, whatever layer it follows and however that is padded."""

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, Value, evaluate, verify
from qc.passes import Context, FoldBatchNorm, PassManager


def fold(b: Builder, out: Value) -> tuple[Graph, dict[str, int | float | str]]:
    graph = b.done(out)
    feeds = b.feeds(2)
    before = [evaluate(graph, f) for f in feeds]
    statistics = FoldBatchNorm().apply(graph, Context())
    verify(graph)
    for feed, old in zip(feeds, before, strict=True):
        for name, array in evaluate(graph, feed).items():
            assert np.allclose(array, old[name], rtol=1e-4, atol=1e-5)
    return graph, statistics


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_after_a_convolution(group: int, kernel: int) -> None:
    b = Builder()
    graph, statistics = fold(b, b.batch_norm(b.conv(b.x, 6, kernel, group=group)))
    assert [n.op.name for n in graph.nodes] == ["Conv"]
    assert statistics["folded"] == 1


def test_after_a_convolution_without_bias() -> None:
    b = Builder()
    graph, _ = fold(b, b.batch_norm(b.op("Conv", b.x, b.normal(4, 3, 3, 3), pads=(1, 1, 1, 1))))
    assert [n.op.name for n in graph.nodes] == ["Conv"]


@pytest.mark.parametrize("group", [1, 3])
def test_after_a_transposed_convolution(group: int) -> None:
    b = Builder()
    up = b.op(
        "ConvTranspose",
        b.x,
        b.normal(3, 6 // group, 2, 2),
        b.normal(6),
        strides=(2, 2),
        group=group,
    )
    graph, _ = fold(b, b.batch_norm(up))
    assert [n.op.name for n in graph.nodes] == ["ConvTranspose"]


@pytest.mark.parametrize("turned", [True, False])
def test_after_gemm(turned: bool) -> None:
    b = Builder((2, 5))
    w = b.normal(7, 5) if turned else b.normal(5, 7)
    graph, _ = fold(b, b.batch_norm(b.op("Gemm", b.x, w, b.normal(7), trans_b=turned)))
    assert [n.op.name for n in graph.nodes] == ["Gemm"]


def test_a_product_whose_columns_are_not_normalized_stays() -> None:
    b = Builder((2, 5, 5))
    graph, _ = fold(b, b.batch_norm(b.op("Gemm", b.x, b.normal(5, 5), b.normal(5))))
    assert [n.op.name for n in graph.nodes] == ["Gemm", "BatchNormalization"]


def test_in_front_of_a_padded_convolution_it_becomes_depthwise() -> None:
    b = Builder()
    graph, statistics = fold(b, b.conv(b.op("Relu", b.batch_norm(b.x)), 4))
    assert [n.op.name for n in graph.nodes] == ["Conv", "Relu", "Conv"]
    assert graph.nodes[0].op.group == 3
    assert statistics["depthwise"] == 1


def test_a_convolution_that_others_read_is_left() -> None:
    b = Builder()
    conv = b.conv(b.x, 4)
    graph, _ = fold(b, b.op("Add", b.batch_norm(conv), conv))
    assert [n.op.name for n in graph.nodes] == ["Conv", "Conv", "Add"]


def test_the_requirement_is_checked_before_anything_runs() -> None:
    b = Builder()
    b.done(b.batch_norm(b.x))
    with pytest.raises(Exception, match="canonical"):
        PassManager([FoldBatchNorm()]).run(b.graph, Context())
