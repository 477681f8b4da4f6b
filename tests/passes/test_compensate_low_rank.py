"""Branches of low rank beside quantized layers: what they give back, and that integers follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir import Graph, Value, evaluate
from qc.ir.errors import PreconditionError
from qc.ir.ops.integer import IntegerOp, QConv
from qc.passes import CompensateLowRank, Context, PassManager
from qc.passes.measure import sqnr_db, weight_bytes
from qc.passes.recipe import load_recipe
from qc.targets import load


def quantized(b: Builder, bits: int = 3) -> tuple[Graph, Context]:
    """The network with explicit codes."""
    context = Context(calibration=b.feeds(24), executor=OnnxRuntimeExecutor())
    recipe = load_recipe("int8", {"quantize.weight_bits": bits, "quantize.rounding": "nearest"})
    return PassManager(recipe.passes[:-1]).run(b.graph, context)[0], context


def compensated(graph: Graph, context: Context, **options: object) -> Graph:
    return PassManager([CompensateLowRank(**options)]).run(graph, context)[0]


def folded(graph: Graph, context: Context) -> Graph:
    return PassManager(load_recipe("int8").passes[-1:]).run(graph, context)[0]


def ratio(b: Builder, graph: Graph) -> float:
    """How far the outputs are from the float network's, in dB."""
    b.rng = np.random.default_rng(99)
    pairs = [(evaluate(b.graph, f), evaluate(graph, f)) for f in b.feeds(8)]
    real, found = ([next(iter(p[i].values())) for p in pairs] for i in (0, 1))
    return sqnr_db(real, found)


def shortcuts() -> Builder:
    """A residual sum, a convolution with groups, strides and dilations, and a classifier."""
    b = Builder((1, 8, 8, 8), seed=3)
    x = b.op("Relu", b.conv(b.x, 16))
    x = b.op("Relu", b.op("Add", b.conv(b.op("Relu", b.conv(x, 16)), 16), x))
    weights, bias = b.normal(16, 4, 3, 3), b.normal(16)
    x = b.op("Conv", x, weights, bias, pads=(2, 2, 2, 2), dilations=(2, 2), strides=(2, 1), group=4)
    pooled = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", x)), axis=1)
    b.done(b.linear(pooled, 12))
    return b


def products() -> Builder:
    """Products of matrices, which have no bias."""
    b = Builder((6, 24))
    x = b.op("Relu", b.op("MatMul", b.x, b.normal(24, 20)))
    b.done(b.op("MatMul", x, b.normal(20, 16)))
    return b


@pytest.mark.parametrize("make", [shortcuts, products])
def test_higher_ranks_lose_less_and_full_ones_next_to_nothing(make: type) -> None:
    b = make()
    graph, context = quantized(b)
    found = [ratio(b, graph)]
    found += [ratio(b, compensated(graph, context, rank=rank)) for rank in (1, 4, 64)]
    assert (np.diff(found) > 0).all()
    exact, _ = quantized(b, 8)
    assert found[-1] > min(30, ratio(b, exact) - 3)


@pytest.mark.parametrize("make", [shortcuts, products, residual_net])
def test_integers_do_what_the_simulation_says(make: type) -> None:
    b = make()
    graph, context = quantized(b)
    before, mended = folded(graph, context), compensated(graph, context, rank=3)
    after = folded(mended, context)
    layers = [sum(isinstance(n.op, IntegerOp) for n in g.nodes) for g in (before, after)]
    assert layers[1] >= layers[0] + 4
    assert islands(after) <= {*islands(before), "Add"}
    for feed in b.feeds(3):
        a, c = (list(evaluate(g, feed).values()) for g in (mended, after))
        assert sqnr_db(a, c) > 40


def islands(graph: Graph) -> set[str]:
    """Float ops between codes, and behind them."""
    return {
        n.op.name for n in graph.nodes
        if not isinstance(n.op, IntegerOp) and n.op.name not in ("Quantize", "Dequantize")
        and any(v.type.is_float for v in n.outputs)
    }  # fmt: skip


def test_one_convolution_is_bit_for_bit_its_simulation() -> None:
    """Where nothing but one sum in fixed point can round differently, nothing does by a step."""
    b = Builder((1, 8, 10, 10))
    inner = b.op("Relu", b.conv(b.x, 16))
    b.done(b.conv(inner, 4))
    graph, context = quantized(b)
    mended = compensated(graph, context, rank=2, only=inner.producer.operands[0].name)
    integer = folded(mended, context)
    host = next(n for n in integer.nodes if len(n.operands) == 5)
    assert isinstance(host.op, QConv)
    assert host.op.epilogue.residual is not None
    name = f"{inner.name}.q"
    for feed in b.feeds(4):
        a, c = (evaluate(g, feed, [v])[v] for g, v in ((mended, name), (integer, host.output.name)))
        apart = np.abs(a.astype(int) - c)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01


def test_compiled_code_gives_the_integers_of_the_reference(tmp_path: Path) -> None:
    b = shortcuts()
    graph, context = quantized(b)
    integer = folded(compensated(graph, context, rank=3), context)
    build(integer, load("host"), tmp_path / "out")
    artifact = Artifact.load(tmp_path / "out")
    for feed in b.feeds(2):
        got, want = artifact.run(feed), evaluate(integer, feed)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])


def test_a_shortcut_is_added_with_the_branch() -> None:
    b = shortcuts()
    graph, context = quantized(b)
    total = next(n for n in b.graph.nodes if n.op.name == "Add")
    body = total.operands[0].producer.name
    integer = folded(compensated(graph, context, rank=2, only=body), context)
    sums = [n for n in integer.nodes if len(n.operands) == 5]
    assert [n.output.name for n in sums] == [f"{body}.up.q", f"{body}.q"]
    assert sums[1].operands[4] is sums[0].output


def test_an_output_keeps_its_name() -> None:
    b = products()
    (before,) = b.graph.outputs
    graph, context = quantized(b)
    (after,) = compensated(graph, context, rank=2).outputs
    assert after.name == before.name
    assert after.producer.op.name == "Add"


def test_bytes_go_where_the_noise_is() -> None:
    b = shortcuts()
    loud = b.graph.nodes[0].operands[1]
    b.graph.assign(loud, (loud.data * b.rng.standard_t(2, loud.shape)).astype(np.float32))
    graph, context = quantized(b, 2)
    found = {}
    for share in (0.05, 1.0):
        mended = compensated(graph, context, rank=16, bytes=share)
        ratios = [v.name for v in mended.values if v.name.endswith((".up", ".down"))]
        found[share] = (ratio(b, mended), branch_bytes(mended), ratios)
        assert branch_bytes(mended) <= share * weight_bytes(graph)
    assert found[0.05][0] < found[1.0][0]
    assert len(found[0.05][2]) < len(found[1.0][2])


def branch_bytes(graph: Graph) -> int:
    """Codes of branches, and a bias and a multiplier for every row of theirs."""
    weights = [v for v in graph.constants if ".down.weight" in v.name or ".up.weight" in v.name]
    return sum(v.type.size + 8 * rows(graph, v) for v in weights)


def rows(graph: Graph, weights: Value) -> int:
    return len(weights.uses[0].op.scale)


def test_patterns_choose_layers() -> None:
    b = shortcuts()
    graph, context = quantized(b)
    names = [n.name for n in b.graph.nodes if n.op.name in ("Conv", "Gemm")]

    def chosen(**options: str) -> set[str]:
        mended = compensated(graph, context, rank=1, **options)
        return {v.name.removesuffix(".up") for v in mended.values if v.name.endswith(".up")}

    assert chosen(only=f"{names[0]},{names[2]}") == {names[0], names[2]}
    assert chosen(skip=names[1]) == {*names} - {names[1]}
    assert chosen(only="nothing*") == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, r"compensate-low-rank\.rank is less than 1"),
        ({"samples": 0}, r"compensate-low-rank\.samples is less than 1"),
        ({"noise_samples": 0}, r"compensate-low-rank\.noise_samples is less than 1"),
        ({"bytes": 0.0}, r"compensate-low-rank\.bytes = 0 is not above 0"),
        ({"bytes": float("nan")}, r"compensate-low-rank\.bytes = nan is not above 0"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, float], message: str) -> None:
    with pytest.raises(PreconditionError, match=message):
        CompensateLowRank(**options)


def test_it_stands_right_behind_quantize() -> None:
    b = products()
    with pytest.raises(PreconditionError, match="compensate-low-rank needs a graph that is quant"):
        compensated(b.graph, Context(calibration=b.feeds(4)))
    dynamic, _ = PassManager(load_recipe("int8-dynamic").passes[:-1]).run(b.graph, Context())
    with pytest.raises(PreconditionError, match="put it right behind"):
        compensated(dynamic, Context(calibration=b.feeds(4)))
    graph, context = quantized(b)
    with pytest.raises(PreconditionError, match="put it right behind"):
        compensated(folded(graph, context), context)
