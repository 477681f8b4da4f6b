"""Quantize, then fold: integers mean what the quantized float graph says, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.ir import Graph, Value, evaluate, verify
from qc.ir.ops.quantize import Dequantize, Quantize
from qc.passes import Calibrate, Canonicalize, Context, FoldIntegers, PassManager, QuantizeStatic
from qc.passes.context import Kept
from qc.passes.measure import sqnr_db
from qc.passes.plan import plan
from qc.passes.recipe import load_recipe

Make = Callable[[Builder], Value]


def both(
    b: Builder, *outputs: Value, keep_float: tuple[str, ...] = (), bits: int = 8
) -> tuple[Graph, Graph, list]:  # type: ignore[type-arg]
    """The quantized float graph, its integer form, and feeds."""
    graph = b.done(*outputs)
    feeds = b.feeds(8)
    context = Context(calibration=feeds, verify=True, keep_float=keep_float)
    passes = [Canonicalize(), Calibrate(method="min-max"), QuantizeStatic(activation_bits=bits)]
    manager = PassManager(passes)
    quantized, ledger = manager.run(graph, context)
    manager.passes = [FoldIntegers()]
    integer, _ = manager.run(quantized, context, ledger)
    verify(integer)
    return quantized, integer, feeds


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def anchor(b: Builder, x: Value) -> Value:
    """A convolution at the end, so that everything before it becomes integers."""
    return b.op("Conv", x, b.normal(4, x.shape[1], 1, 1), b.normal(4))


LAYERS: dict[str, tuple[Make, list[str]]] = {
    "conv": (lambda b: b.conv(b.x, 8), ["QConv"]),
    "conv relu": (lambda b: b.op("Relu", b.conv(b.x, 8)), ["QConv"]),
    "conv relu6": (lambda b: b.op("Clip", b.conv(b.x, 8), min=0.0, max=1.0), ["QConv"]),
    "grouped": (lambda b: b.conv(b.x, 6, group=3), ["QConv"]),
    "conv silu": (lambda b: b.op("Silu", b.conv(b.x, 8)), ["QConv", "QTable"]),
    "hard swish of the input": (lambda b: b.op("HardSwish", b.x), ["QTable"]),
    "residual": (
        lambda b: b.op("Relu", b.op("Add", b.conv(b.op("Relu", b.conv(b.x, 3)), 3), b.x)),
        ["QConv", "QConv"],
    ),
    "two branches": (lambda b: b.op("Add", b.conv(b.x, 8), b.conv(b.x, 8, 1)), ["QConv", "QConv"]),
    "sum of codes": (
        lambda b: b.op("Add", b.x, b.op("MaxPool", b.x, kernel=(3, 3), pads=(1, 1, 1, 1))),
        ["MaxPool", "QSum"],
    ),
    "difference": (
        lambda b: b.op("Sub", b.op("Relu", b.x), b.op("Sigmoid", b.x)),
        ["QTable", "QTable", "QSum"],
    ),
    "sum with a constant": (
        lambda b: b.op("Add", b.op("Tanh", b.x), b.normal(3, 8, 8)),
        ["QTable", "QSum"],
    ),
    "gate": (
        lambda b: b.op("Mul", b.x, b.op("Sigmoid", b.op("GlobalAveragePool", b.x))),
        ["QAveragePool", "QTable", "QMul"],
    ),
    "concat": (
        lambda b: b.op("Concat", b.conv(b.x, 4), b.op("Relu", b.conv(b.x, 4)), axis=1),
        ["QConv", "QConv", "Concat"],
    ),
    "average": (
        lambda b: b.op("AveragePool", b.x, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        ["QAveragePool"],
    ),
    "average relu": (
        lambda b: b.op("Relu", b.op("AveragePool", b.x, kernel=(2, 2), strides=(2, 2))),
        ["QAveragePool"],
    ),
    "moves": (
        lambda b: b.op(
            "Reshape",
            b.op(
                "Transpose",
                b.op("Reshape", b.conv(b.x, 8), shape=(1, 2, 4, 8, 8)),
                perm=(0, 2, 1, 3, 4),
            ),
            shape=(1, 8, 8, 8),
        ),
        ["QConv", "Reshape", "Transpose", "Reshape"],
    ),
    "pad and slice": (
        lambda b: b.op(
            "Pad",
            b.op("Slice", b.x, starts=(0, 0), ends=(8, 8), axes=(2, 3), steps=(2, 2)),
            pads=(0, 1, 0, 0, 0, 1, 0, 0),
        ),
        ["Slice", "Pad"],
    ),
    "linear resize": (
        lambda b: b.op("Resize", b.conv(b.x, 8), mode="linear", sizes=(1, 8, 16, 16)),
        ["QConv", "QResize"],
    ),
    "linear resize of aligned corners": (
        lambda b: b.op(
            "Resize",
            b.op("Relu", b.x),
            mode="linear",
            scales=(1.0, 1.0, 1.0, 2.0),
            coordinate_transformation_mode="align_corners",
        ),
        ["QTable", "QResize"],
    ),
    "scaled": (lambda b: b.op("Mul", b.const([0.25]), b.op("Relu", b.x)), ["QTable"]),
}


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_folds_and_means_the_same(name: str, bits: int) -> None:
    make, expected = LAYERS[name]
    b = Builder()
    value = make(b)
    quantized, integer, feeds = both(b, anchor(b, value), bits=bits)
    found = [n for n in ops(integer) if n not in ("Quantize", "Dequantize")]
    assert found == [*expected, "QConv"]
    last = integer.nodes[-1].operands[0]
    simulated = next(
        n for n in quantized.nodes if n.op.name == "Conv" and quantized.is_output(n.output)
    )
    codes = simulated.operands[0].producer.operands[0]
    off = total = 0
    for feed in feeds:
        a = evaluate(quantized, feed, [codes.name])[codes.name].astype(int)
        q = evaluate(integer, feed, [last.name])[last.name].astype(int)
        assert a.shape == q.shape
        assert np.abs(a - q).max() <= 1 + (name in ("conv silu", "residual", "gate"))
        off, total = off + int((a != q).sum()), total + a.size
    ties = 1 / 32 if name == "linear resize" else 0.0  # of sixteenths; they go up, not to even
    assert off <= (0.02 + ties) * total


def test_a_classifier_ends_without_islands() -> None:
    net = residual_net()
    context = Context(calibration=net.feeds(8), verify=True)
    integer, ledger = PassManager(load_recipe("int8").passes).run(net.graph, context)
    assert ledger.rows[-1].statistics["float_nodes"] == 0
    assert ops(integer)[-1] == "QSoftmax"
    assert integer.nodes[-1].operands[0].type.dtype == "uint16"
    for feed in net.feeds(3):
        p = evaluate(integer, feed)["prob"]
        q = evaluate(net.graph, feed)["prob"]
        assert abs(p.sum() - 1) < 1e-6
        assert sqnr_db([q], [p]) > 10


def test_a_pooling_at_the_end_keeps_16_bits() -> None:
    b = Builder()
    _, integer, feeds = both(
        b,
        b.op(
            "Softmax",
            b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", b.conv(b.x, 8))), axis=1),
        ),
    )
    assert [n.output.type.dtype for n in integer.nodes] == [
        "uint8",
        "uint16",
        "uint16",
        "uint16",
        "float32",
    ]
    for feed in feeds:
        a, q = evaluate(b.graph, feed), evaluate(integer, feed)
        assert sqnr_db(list(a.values()), list(q.values())) > 35


def test_reals_come_straight_from_the_accumulator() -> None:
    b = Builder()
    _, integer, _ = both(b, b.op("Sigmoid", b.conv(b.x, 8)))
    assert ops(integer) == ["Quantize", "QConv", "Sigmoid"]
    assert integer.nodes[1].output.type.dtype == "float32"


def test_matrix_products() -> None:
    b = Builder((5, 12))
    hidden = b.op("Relu", b.linear(b.x, 16))
    scores = b.op("MatMul", hidden, b.op("Transpose", b.linear(b.x, 16), perm=(1, 0)))
    quantized, integer, feeds = both(b, scores)
    assert ops(integer).count("QMatMul") == 3
    for feed in feeds:
        a, q = evaluate(quantized, feed), evaluate(integer, feed)
        assert sqnr_db(list(a.values()), list(q.values())) > 40


def test_keep_float_pins_a_layer() -> None:
    b = Builder()
    first = b.graph.add(b.conv(b.x, 4).producer.op, [b.x, b.normal(4, 3, 3, 3)], names=["keep_me"])
    _, integer, _ = both(b, anchor(b, b.op("Relu", first.output)), keep_float=("keep*",))
    assert "Conv" in ops(integer)
    assert ops(integer)[-1] == "QConv"
    assert plan(b.graph, Kept(("keep*",))).why_float["keep_me"] == "kept float by --keep-float"


def test_a_mask_stays_float() -> None:
    b = Builder((4, 8))
    scores = b.op("MatMul", b.x, b.normal(8, 8))
    masked = b.op("Add", scores, b.const(np.triu(np.full((4, 8), -1e9), 1)))
    _, integer, feeds = both(b, b.op("MatMul", b.op("Softmax", masked), b.normal(8, 3)))
    assert "Add" in ops(integer)
    for feed in feeds:
        a, q = evaluate(b.graph, feed), evaluate(integer, feed)
        assert sqnr_db(list(a.values()), list(q.values())) > 25


def test_codes_begin_after_functions_of_reals() -> None:
    """A spectrum's magnitude in codes of its squares would lose all that is quiet."""
    b = Builder()
    real, imaginary = b.op("Pow", b.x, b.const(2.0)), b.op("Pow", b.op("Sin", b.x), b.const(2.0))
    halves = b.op("Slice", b.op("Add", real, imaginary), starts=(0,), ends=(4,), axes=(3,))
    magnitude = b.op("Sqrt", halves)
    _, integer, feeds = both(b, anchor(b, b.op("Relu", b.conv(magnitude, 4))))
    assert [o for o in ops(integer) if "Quantize" in o or o[0] == "Q"] == [
        "Quantize",
        "QConv",
        "QConv",
    ]
    why = plan(b.graph).why_float
    assert why[magnitude.producer.name] == "codes begin after it"
    assert "Slice" in ops(integer)
    for feed in feeds:
        a, q = evaluate(b.graph, feed), evaluate(integer, feed)
        assert sqnr_db(list(a.values()), list(q.values())) > 30


def test_a_sum_with_codes_among_its_operands_is_one_of_codes() -> None:
    b = Builder()
    real = b.op("Pow", b.x, b.const(2.0))
    _, integer, _ = both(b, anchor(b, b.op("Add", b.op("Tanh", b.conv(b.x, 3)), real)))
    assert "QSum" in ops(integer)
    assert "Add" not in ops(integer)


def test_dead_and_loud_channels_and_huge_biases() -> None:
    b = Builder()
    w = b.rng.normal(0, 0.3, (4, 3, 3, 3))
    w[1], w[2] = 0.0, w[2] * 1e-9
    y = b.op("Conv", b.x, b.const(w), b.const([0.0, 3.0, 1e4, -1.0]), pads=(1, 1, 1, 1))
    _, integer, feeds = both(b, y)
    bias = integer.nodes[1].operands[2].data
    assert np.abs(bias.astype(np.int64)).max() < 2**30
    for feed in feeds:
        a, q = evaluate(b.graph, feed), evaluate(integer, feed)
        for channel in range(4):
            assert sqnr_db([a[y.name][:, channel]], [q[y.name][:, channel]]) > 25 or channel == 0


def test_sums_cannot_overflow() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        b = Builder((1, 64, 4, 4), seed=int(rng.integers(1 << 30)))
        scale = float(10 ** rng.uniform(-3, 3))
        y = b.op("Conv", b.x, b.normal(64, 64, 3, 3, scale=scale), b.normal(64), pads=(1, 1, 1, 1))
        _, integer, _ = both(b, anchor(b, b.op("Add", y, b.x)))
        node = next(n for n in integer.nodes if len(n.operands) == 5)
        r, m = node.op.epilogue.residual, node.operands[3].data.astype(np.float64)
        rows = np.abs(node.operands[1].data.astype(np.int64)).reshape(64, -1).sum(1)
        worst = (rows * 255 + np.abs(node.operands[2].data)) * m
        assert (worst + 255 * abs(r.multiplier) + abs(r.constant)).max() < 2**31


def test_every_quantize_states_the_range_it_was_given() -> None:
    net = residual_net()
    context = Context(calibration=net.feeds(8))
    quantized, _ = PassManager(load_recipe("int8").passes[:-1]).run(net.graph, context)
    made = [n for n in quantized.nodes if isinstance(n.op, Quantize)]
    assert len(made) > 8
    for node in made:
        back = [n for n in node.output.uses if isinstance(n.op, Dequantize)]
        assert all(
            n.op.scale == node.op.scale and n.op.zero_point == node.op.zero_point for n in back
        )


def test_dynamic_matches_its_simulation() -> None:
    net = residual_net()
    passes = load_recipe("int8-dynamic").passes
    context = Context(calibration=net.feeds(2), verify=True)
    simulated, _ = PassManager(passes[:-1]).run(net.graph, context)
    integer, _ = PassManager(passes[-1:]).run(simulated, context)
    assert ops(integer).count("QConv") == 5
    assert "Conv" not in ops(integer)
    for feed in net.feeds(3):
        a, q, f = (evaluate(g, feed)["prob"] for g in (simulated, integer, net.graph))
        assert sqnr_db([a], [q]) > 40
        assert sqnr_db([f], [q]) > 10


def test_dynamic_does_not_depend_on_the_batch() -> None:
    b = Builder((4, 3, 8, 8))
    graph = b.done(b.op("Relu", b.conv(b.x, 8)))
    one = Builder((1, 3, 8, 8))
    single = one.done(one.op("Relu", one.conv(one.x, 8)))
    passes = load_recipe("int8-dynamic").passes
    batched, _ = PassManager(passes).run(graph, Context())
    alone, _ = PassManager(passes).run(single, Context())
    x = b.feeds(1)[0]["x"] * np.array([1, 5, 0.1, 2], np.float32).reshape(4, 1, 1, 1)
    whole = next(iter(evaluate(batched, {"x": x}).values()))
    for i in range(4):
        part = next(iter(evaluate(alone, {"x": x[i : i + 1]}).values()))
        assert np.array_equal(whole[i : i + 1], part)


def test_float_weights_are_gone_after_quantization() -> None:
    b = Builder()
    quantized, _, _ = both(b, anchor(b, b.op("Relu", b.conv(b.x, 16))))
    assert [v.name for v in quantized.constants if not v.uses] == []


@pytest.mark.parametrize(("factor", "shared"), [(1.05, True), (20.0, False)])
def test_a_concatenation_joins_scales_only_where_ranges_are_alike(
    factor: float, shared: bool
) -> None:
    b = Builder()
    x = b.op("Relu", b.conv(b.x, 16))
    y = b.op("Mul", x, b.const([factor]))
    joined = b.op("Concat", x, y, axis=1)
    quantized, integer, feeds = both(b, anchor(b, joined), b.op("Relu", b.conv(x, 16)))
    steps = {
        n.operands[0].name: n.op.scale[0] for n in quantized.nodes if isinstance(n.op, Quantize)
    }
    wide, narrow = steps[joined.name], steps[x.name]
    assert (wide == narrow) == shared
    assert shared or narrow < wide / 5
    for feed in feeds:
        a, c = evaluate(quantized, feed), evaluate(integer, feed)
        for name in a:
            assert sqnr_db([a[name]], [c[name]]) > 25
