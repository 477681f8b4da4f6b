"""Weights in blocks, rounded by what the layers read."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError
from qc.ir.verify import verify
from qc.passes import Context
from qc.passes.encode import EncodeFormats
from qc.passes.linear import Linear
from qc.passes.measure import sqnr_db


def correlated(graph: Graph, count: int = 48) -> list[dict[str, np.ndarray]]:
    """Feeds whose channels go together, as those of real layers do."""
    rng = np.random.default_rng(3)
    shape = graph.inputs[0].type.static
    mix = rng.standard_normal((shape[1], shape[1]))
    x = rng.standard_normal((count, *shape[:1], *shape[2:], shape[1])) @ mix + 1
    return [{"x": np.moveaxis(one, -1, 1).astype(np.float32)} for one in x]


def perceptron() -> Graph:
    b = Builder((8, 40))
    y = b.op("Relu", b.op("Gemm", b.x, b.normal(40, 72), b.normal(72)))
    return b.done(b.op("MatMul", y, b.normal(72, 10)))


def convolutions() -> Graph:
    b = Builder((1, 6, 9, 9))
    y = b.op("Relu", b.conv(b.x, 36))
    y = b.op("Relu", b.conv(y, 24, kernel=1))
    return b.done(b.conv(y, 8, group=2))


def decibels(
    graph: Graph, rounding: str, feeds: list[dict[str, np.ndarray]], weights: str = "int3-16"
) -> float:
    """SQNR on the last feeds, calibrated by the others."""
    work = graph.copy()
    EncodeFormats(weights, rounding=rounding).apply(work, Context(calibration=feeds[:-8]))
    verify(work)
    pairs = [(evaluate(graph, f), evaluate(work, f)) for f in feeds[-8:]]
    names = [v.name for v in graph.outputs]
    return sqnr_db([a[n] for a, _ in pairs for n in names], [b[n] for _, b in pairs for n in names])


@pytest.mark.parametrize("network", [perceptron, convolutions])
def test_feedback_loses_less_than_rounding_to_nearest(network) -> None:
    graph = network()
    feeds = correlated(graph)
    assert decibels(graph, "feedback", feeds) > decibels(graph, "nearest", feeds) + 3


@pytest.mark.parametrize("name", ["bfp3-16", "mxfp4", "e2m1-16", "e3m0-16", "mxint8"])
def test_so_it_does_in_every_kind_of_format(name: str) -> None:
    graph = perceptron()
    feeds = correlated(graph)
    assert decibels(graph, "feedback", feeds, name) > decibels(graph, "nearest", feeds, name) + 3


@pytest.mark.parametrize("network", [perceptron, convolutions])
def test_what_is_packed_is_near_the_fitted_weights(network) -> None:
    graph = network()
    work = graph.copy()
    found = EncodeFormats("int8-16").apply(work, Context(calibration=correlated(graph)))
    layers = [n for n in graph.nodes if Linear.of(n)]
    assert found["fitted"] == len(layers)
    for node in layers:
        twin = work[node.output.name].producer
        decode = twin.operands[1].producer
        while decode.op.name != "Decode":
            decode = decode.operands[0].producer
        near = decode.op.eval([decode.operands[0].data])[0].reshape(node.operands[1].shape)
        np.testing.assert_allclose(near, node.operands[1].data, atol=0.05)


def test_without_data_it_is_rounding_to_nearest() -> None:
    graph = perceptron()
    plain, fitted = graph.copy(), graph.copy()
    EncodeFormats("int4-16", rounding="nearest").apply(plain, Context())
    found = EncodeFormats("int4-16").apply(fitted, Context())
    assert found["fitted"] == 0
    assert plain == fitted


def test_weights_of_two_layers_are_rounded_to_nearest() -> None:
    b = Builder((4, 24))
    w = b.normal(24, 24)
    graph = b.done(b.op("MatMul", b.op("Relu", b.op("MatMul", b.x, w)), w))
    context = Context(calibration=correlated(graph, 8))
    assert EncodeFormats("int4-8").apply(graph.copy(), context)["fitted"] == 0


def test_tables_can_have_a_format_of_their_own() -> None:
    b = Builder((1, 5), dtype="int64")
    b.dtype = "float32"
    rows = b.op("Gather", b.normal(30, 32), b.x)
    graph = b.done(b.op("MatMul", rows, b.normal(32, 9)))
    EncodeFormats("int4-32", tables="int8-32").apply(graph, Context())
    formats = {n.op.format for n in graph.nodes if n.op.name == "Decode"}
    assert formats == {"int4-32", "int8-32"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounding": "feedbak"}, "did you mean 'feedback'"),
        ({"rounding_samples": 0}, "encode.rounding_samples is less than 1"),
        ({"samples": 0}, "encode.samples is less than 1"),
    ],
)
def test_options_that_are_none(options, message) -> None:
    with pytest.raises(PreconditionError, match=message):
        EncodeFormats("int4-32", **options)
