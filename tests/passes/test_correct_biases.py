"""Bias correction: shifted means come back, chance is left alone."""

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.ir.errors import PreconditionError, VerifyError
from qc.ir.evaluate import walk
from qc.passes import Context
from qc.passes import correct_biases as module
from qc.passes.calibrate import Calibrate
from qc.passes.correct_biases import correct_biases
from qc.passes.measure import sqnr_db
from qc.passes.quantize import QuantizeStatic


def net() -> Builder:
    """Convolutions with ReLU, a pooled linear classifier with weights in both layouts."""
    b = Builder((1, 3, 12, 12), seed=5)
    x = b.op("Relu", b.conv(b.x, 12))
    x = b.op("Relu", b.conv(x, 12, group=12))
    x = b.op("Relu", b.conv(x, 16, 1, stride=2))
    x = b.op("Reshape", b.op("GlobalAveragePool", x), b.graph.constant(np.array([1, 16])))
    b.done(b.op("Gemm", x, b.normal(16, 5), b.normal(5)))
    return b


def clipped(b: Builder) -> tuple[Context, Graph]:
    """Half of every calibrated range, so that clipping shifts means; and its graph."""
    context = Context(calibration=b.feeds(24))
    Calibrate(moments=False).apply(b.graph, context)
    for name, r in context.ranges.items():
        if name != "x":
            low, high = r.span(8)
            r.spans[8] = 0.5 * low, 0.5 * high
    graph = b.graph.copy()
    QuantizeStatic(rounding="nearest", bias_samples=0).apply(graph, context)
    return context, graph


def outputs(graph: Graph, feeds: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    return [a for feed in feeds for a in evaluate(graph, feed).values()]


def test_shifted_means_come_back() -> None:
    b = net()
    context, coded = clipped(b)
    fresh = b.feeds(40)
    real, before = outputs(b.graph, fresh), outputs(coded, fresh)
    assert correct_biases(b.graph, coded, context, 24) == 4
    after = outputs(coded, fresh)
    shift = np.abs(np.mean(real, 0) - np.mean(before, 0)).max()
    assert np.abs(np.mean(real, 0) - np.mean(after, 0)).max() < 0.3 * shift
    assert sqnr_db(real, after) > sqnr_db(real, before) + 2


def test_products_without_a_bias_are_given_one() -> None:
    b = Builder((1, 24, 12), seed=5)
    hidden = b.op("Relu", b.op("MatMul", b.x, b.normal(12, 32)))
    b.done(b.op("MatMul", b.op("Relu", b.op("MatMul", hidden, b.normal(32, 32))), b.normal(32, 4)))
    context, plain = clipped(b)
    mended = b.graph.copy()
    QuantizeStatic(rounding="nearest", bias_samples=24).apply(mended, context)
    before, after = (
        {n.output.name: n.op.name for n in g.nodes if n.op.name in ("MatMul", "Gemm")}
        for g in (plain, mended)
    )
    assert list(before) == list(after)
    assert set(before.values()) == {"MatMul"}
    assert set(after.values()) == {"Gemm"}
    fresh = b.feeds(40)
    real, lost, kept = (np.mean(outputs(g, fresh), (0, 1, 2)) for g in (b.graph, plain, mended))
    assert np.abs(kept - real).max() < 0.3 * np.abs(lost - real).max()


def test_quantize_corrects_unless_told_otherwise() -> None:
    b = net()
    context, _ = clipped(b)
    left, mended = b.graph.copy(), b.graph.copy()
    assert QuantizeStatic(bias_samples=0).apply(left, context)["biases"] == 0
    assert QuantizeStatic().apply(mended, context)["biases"] == 4
    differing = {v.name for v in left.constants if not np.array_equal(v.data, mended[v.name].data)}
    biases = {found[0].name for found in map(module._bias, left.nodes) if found}
    assert len(biases) == 4
    assert differing, "some biases differ"
    assert differing <= biases, "nothing else differs"
    assert QuantizeStatic(bias_samples=3).apply(b.graph.copy(), context)["biases"] == 0
    with pytest.raises(PreconditionError, match="bias_samples = -1 is negative"):
        QuantizeStatic(bias_samples=-1)


def test_chance_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    noise = list(rng.normal(0, 1, (32, 4000)))
    taken = np.square(module._shrunk(noise)).mean() / np.square(np.mean(noise, 0)).mean()
    assert taken < 0.3
    certain = module._shrunk([n * 0.01 + 1 for n in noise])
    np.testing.assert_allclose(certain, 1, atol=0.01)


def test_large_values_take_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    b = net()
    context, coded = clipped(b)
    seen: list[int] = []

    def spy(graph: Graph, feeds: list[dict[str, np.ndarray]]) -> object:
        seen.append(len(feeds))
        return walk(graph, feeds)

    monkeypatch.setattr(module, "walk", spy)
    monkeypatch.setattr(module, "HELD", 6 * module._most_held(coded, b.feeds(1)[0]))
    assert correct_biases(b.graph, coded.copy(), context, 24) == 4
    assert seen[-1] == 6
    monkeypatch.setattr(module, "HELD", 1)
    assert correct_biases(b.graph, coded, context, 24) == 0


def test_walking_side_by_side_evaluates_and_takes_changes() -> None:
    b = net()
    feeds = b.feeds(3)
    name = b.graph.outputs[0].name
    wanted = [evaluate(b.graph, feed)[name] for feed in feeds]
    for node, found in walk(b.graph, feeds):
        last = found.get(name) if node.output.name == name else None
    assert last is not None
    np.testing.assert_array_equal(np.stack(last), np.stack(wanted))
    alive = [len(found) for _, found in walk(b.graph, feeds)]
    assert max(alive) <= 2, "values are let go after their last use"
    for node, found in walk(b.graph, feeds):
        if node.op.name == "GlobalAveragePool":
            found[node.output.name] = [a + 1 for a in found[node.output.name]]
        last = found.get(name)
    assert last is not None
    weights = b.graph.outputs[0].producer
    assert weights is not None
    gained = np.asarray(weights.operands[1].data).sum(0)
    np.testing.assert_allclose(last[0] - wanted[0], gained[None], atol=1e-5)


def test_a_constant_takes_data_of_its_own_shape_only() -> None:
    b = net()
    constant = b.graph.constants[0]
    with pytest.raises(VerifyError, match="cannot hold"):
        b.graph.assign(constant, np.zeros((2, 2), np.float32))
    with pytest.raises(VerifyError, match="cannot hold"):
        b.graph.assign(b.x, np.zeros(b.x.shape, np.float32))
    with pytest.raises(VerifyError, match="cannot hold"):
        b.graph.assign(constant, np.zeros(constant.shape, np.int8))
