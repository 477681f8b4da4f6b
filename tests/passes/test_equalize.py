"""Equalization is exact, and makes one scale per tensor suit all channels."""

import itertools

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.ir import Graph, evaluate
from qc.ir.errors import DataError, PreconditionError
from qc.passes import Canonicalize, Context, FoldBatchNorm, PassManager
from qc.passes.calibrate import Calibrate
from qc.passes.equalize import Equalize
from qc.passes.equalizing.site import Site
from qc.passes.equalizing.solvers import SOLVERS, Solver
from qc.passes.linear import Linear
from qc.passes.measure import sqnr_db
from qc.passes.quantize import QuantizeStatic


def outlier_net(spread: float = 30.0) -> Builder:
    """Depthwise blocks in which a few channels reach much farther than the others."""
    b = Builder((1, 3, 12, 12), seed=1)
    x = b.op("Relu", b.conv(b.x, 16))
    for group in (16, 1, 16, 1):
        x = b.op("Relu", b.conv(x, 16, 3 if group > 1 else 1, group=group))
    b.done(b.conv(x, 4, 1))
    layers = [layer for layer in map(Linear.of, b.graph.nodes) if layer is not None]
    for i, (one, other) in enumerate(itertools.pairwise(layers)):
        s = np.ones(16)
        s[[i, 7, 12 - i]] = spread, spread / 3, 1 / spread
        w, bias = one.weights(), one.bias()
        one.set(b.graph, w * s.reshape(*w.shape[:2], 1, 1), None if bias is None else bias * s)
        w = other.weights()
        other.set(b.graph, w / s.reshape(w.shape[0], 1, w.shape[2], 1), other.bias())
    b.graph.prune()
    return b


def quantized_db(b: Builder, graph: Graph, context: Context) -> float:
    graph = graph.copy()
    Calibrate().apply(graph, context)
    QuantizeStatic().apply(graph, context)
    feeds = b.feeds(4)
    before = [a for f in feeds for a in evaluate(b.graph, f).values()]
    return sqnr_db(before, [a for f in feeds for a in evaluate(graph, f).values()])


def test_outlier_channels_cost_bits_and_equalization_gives_them_back() -> None:
    b = outlier_net()
    context = Context(calibration=b.feeds(16))
    plain = quantized_db(b, b.graph, context)
    equalized = b.graph.copy()
    statistics = Equalize().apply(equalized, context)
    assert statistics["rewrites"] == 6
    assert float(statistics["gain_db"]) > 5
    for feed in b.feeds(3):
        for name, array in evaluate(b.graph, feed).items():
            np.testing.assert_allclose(evaluate(equalized, feed)[name], array, atol=1e-3)
    assert quantized_db(b, equalized, context) > plain + 6


def scan_net(last: bool = False) -> Builder:
    """A selective scan with a few loud channels, and the product that reads it."""
    b = Builder((1, 24, 4), seed=2)
    u, delta = (b.op("MatMul", b.x, b.normal(4, 16)) for _ in range(2))
    rows, columns = (b.op("MatMul", b.x, b.normal(4, 3, scale=1.0)) for _ in range(2))
    loud = np.ones(16)
    loud[[2, 9]] = 40, 15
    a, d = b.const(-b.rng.uniform(0.5, 2, (16, 3))), b.const(loud)
    y = b.op("SelectiveScan", u, delta, a, rows, columns, d, softplus=True)
    weights = b.const(b.rng.normal(size=(16, 5)) / loud[:, None])
    b.done(b.op("MatMul", y, weights), *([y] if last else []))
    return b


def test_a_product_behind_a_scan_takes_up_factors() -> None:
    b = scan_net()
    others = [n.name for n in b.graph.nodes if n.op.name == "MatMul"][:-1]
    context = Context(calibration=b.feeds(16), keep_float=others)
    plain = quantized_db(b, b.graph, context)
    equalized = b.graph.copy()
    assert Equalize().apply(equalized, context)["rewrites"] == 2
    (scaled,) = (n for n in equalized.nodes if n.op.name == "Mul")
    assert scaled.operands[0].producer.op.name == "SelectiveScan"
    for feed in b.feeds(3):
        for name, array in evaluate(b.graph, feed).items():
            apart = np.abs(evaluate(equalized, feed)[name] - array).max()
            assert apart <= 1e-5 * np.abs(array).max()
    assert quantized_db(b, equalized, context) > plain + 3


def activated(function: str = "Gelu") -> Builder:
    """A layer with two loud channels, a function that no factor passes, and a layer."""
    b = Builder((1, 24, 8), seed=4)
    loud = np.ones(16)
    loud[[3, 11]] = 40, 60
    w = b.const(b.rng.normal(size=(8, 16)) * loud)
    y = b.op(function, b.op("MatMul", b.x, w))
    b.done(b.op("MatMul", y, b.const(b.rng.normal(size=(16, 5)) / loud[:, None])))
    return b


@pytest.mark.parametrize("function", ["Gelu", "Silu"])
def test_a_product_behind_an_activation_takes_up_factors_where_asked(function: str) -> None:
    b = activated(function)
    context = Context(calibration=b.feeds(16))
    left, scaled = b.graph.copy(), b.graph.copy()
    assert Equalize().apply(left, context) == {"rewrites": 0, "channels": 0}
    assert str(left) == str(b.graph)
    assert Equalize(activations=True).apply(scaled, context)["channels"] == 16
    assert [n.op.name for n in scaled.nodes] == ["MatMul", function, "Mul", "MatMul"]
    for feed in b.feeds(3):
        for name, array in evaluate(b.graph, feed).items():
            apart = np.abs(evaluate(scaled, feed)[name] - array).max()
            assert apart <= 1e-5 * np.abs(array).max()
    assert quantized_db(b, scaled, context) > quantized_db(b, b.graph, context) + 3


def test_the_gate_of_a_glu_needs_no_product() -> None:
    """The other branch takes the factors up, and stays codes."""
    b = Builder((1, 24, 8), seed=4)
    gate, up = (b.op("MatMul", b.x, b.normal(8, 16)) for _ in range(2))
    b.done(b.op("MatMul", b.op("Mul", b.op("Silu", gate), up), b.normal(16, 5)))
    Equalize(activations=True).apply(b.graph, Context(calibration=b.feeds(8)))
    assert [n.op.name for n in b.graph.nodes].count("Mul") == 1


def test_what_others_read_is_not_scaled() -> None:
    b = scan_net(last=True)
    equalized = b.graph.copy()
    assert Equalize().apply(equalized, Context(calibration=b.feeds(4)))["rewrites"] == 2
    assert equalized.outputs[1].producer.op.name == "SelectiveScan"
    (feed,) = b.feeds(1)
    for name, array in evaluate(b.graph, feed).items():
        apart = np.abs(evaluate(equalized, feed)[name] - array).max()
        assert apart <= 1e-5 * np.abs(array).max()


def test_a_product_that_takes_up_nothing_goes() -> None:
    b = scan_net()
    only = b.op("Softmax", b.graph.nodes[-2].output)
    b.done(only)
    assert Equalize().apply(b.graph, Context(calibration=b.feeds(4)))["rewrites"] == 0
    assert "Mul" not in {n.op.name for n in b.graph.nodes}


@pytest.mark.parametrize("seed", range(4))
def test_the_manager_finds_it_exact(seed: int) -> None:
    b = residual_net(seed)
    context = Context(calibration=b.feeds(6), verify=True)
    passes = [Canonicalize(), FoldBatchNorm(), Equalize()]
    graph, ledger = PassManager(passes).run(b.graph, context)
    assert ledger.rows[-1].name == "equalize"
    assert all(np.isfinite(v.data).all() for v in graph.constants if v.data is not None)


def test_channels_that_never_speak_and_networks_without_sites() -> None:
    b = Builder()
    y = b.op("Relu", b.op("Conv", b.x, b.normal(4, 3, 1, 1), b.const([-1e6, 0, 0, 0])))
    b.done(b.conv(y, 2))
    Equalize().apply(b.graph, Context(calibration=b.feeds(3)))
    assert all(np.isfinite(v.data).all() for v in b.graph.constants if v.data is not None)
    lonely = Builder()
    lonely.done(lonely.conv(lonely.x, 2))
    found = Equalize().apply(lonely.graph, Context(calibration=lonely.feeds(1)))
    assert found == {"rewrites": 0, "channels": 0}


def normed_net(dtype: str = "float32") -> Builder:
    """A norm with loud channels off the middle, and a layer that reads it."""
    b = Builder((1, 24, 16), seed=3, dtype=dtype)
    gain, bias = np.ones(16), np.zeros(16)
    gain[[1, 8]], bias[[1, 8]] = (30, 50), (-70, 90)
    x = b.op("MatMul", b.x, b.normal(16, 16, scale=1.0))
    y = b.op("LayerNormalization", x, b.const(gain, "g"), b.const(bias, "b"))
    w = b.const(b.rng.normal(size=(16, 5)) / gain[:, None], "w")
    b.done(b.op("Relu", b.op("Add", b.op("MatMul", y, w), b.normal(5))))
    return b


@pytest.mark.parametrize("bits", [8, 4])
def test_channels_behind_a_norm_are_moved_and_scaled(bits: int) -> None:
    b = normed_net()
    quantize = QuantizeStatic(weight_bits=bits, activation_bits=bits)
    noise = {}
    for solvers in ("best", None):
        context = Context(calibration=b.feeds(16), verify=True)
        first = [] if solvers is None else [Equalize(solvers)]
        passes = [Canonicalize(), *first, Calibrate(), quantize]
        _, ledger = PassManager(passes).run(b.graph, context)
        noise[solvers] = ledger.rows[-1].sqnr_db
        for one in context.equalized:
            assert one.before is not None
            assert one.after is not None
            assert one.solver != "none"
            assert one.after < one.before / 3
            assert (one.site, one.channels, len(one.readers)) == ("layernormalization", 16, 1)
    assert noise["best"] > noise[None] + 6


def test_shifts_are_exact() -> None:
    b = normed_net("float64")
    feeds = [{"x": f["x"].astype(np.float64)} for f in b.feeds(8)]
    after = b.graph.copy()
    found = Equalize("outlier-suppression").apply(after, Context(calibration=feeds))
    assert found["shifted"] == 16
    for feed in feeds:
        for name, array in evaluate(b.graph, feed).items():
            apart = np.abs(evaluate(after, feed)[name] - array).max()
            assert apart <= 1e-9 * np.abs(array).max()


def test_without_data_by_weights_alone_which_is_said(caplog: pytest.LogCaptureFixture) -> None:
    b = outlier_net()
    context = Context()
    equalized = b.graph.copy()
    found = Equalize().apply(equalized, context)
    assert found["without_data"] == "cross-layer, dilate"
    assert "no calibration data" in caplog.text
    assert {e.solver for e in context.equalized} == {"cross-layer"}
    assert all(e.before is None for e in context.equalized)
    assert quantized_db(b, equalized, Context(calibration=b.feeds(16))) > 6 + quantized_db(
        b, b.graph, Context(calibration=b.feeds(16))
    )
    assert "without_data" not in Equalize("dilate").apply(b.graph.copy(), Context())


def test_a_solver_asked_for_by_name_must_have_its_data() -> None:
    b = outlier_net()
    with pytest.raises(DataError, match=r"'smooth' needs .* --calib DATA, .*\(cross-layer, dilate"):
        Equalize("dilate,smooth").apply(b.graph, Context())


def test_solvers_that_are_none_are_refused() -> None:
    with pytest.raises(PreconditionError, match=r"no solver 'smoth'; .*smooth"):
        Equalize("smoth")
    assert Equalize("smooth, dilate").apply(outlier_net().graph, Context(
        calibration=outlier_net().feeds(3)
    ))["rewrites"]  # fmt: skip


def test_a_solver_that_does_not_contend_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def solve(site: Site) -> None:
        asked.append(site.name)

    assert not SOLVERS["dual-clipping"].contends
    monkeypatch.setitem(SOLVERS, "dual-clipping", Solver(solve, contends=False))
    b, context = normed_net(), Context(calibration=normed_net().feeds(4))
    Equalize().apply(b.graph.copy(), context)
    assert asked == []
    Equalize("dual-clipping").apply(b.graph.copy(), context)
    assert asked == ["layernormalization"]


def test_values_must_be_finite() -> None:
    b = outlier_net()
    for bad in (np.nan, np.inf):
        feeds = b.feeds(2)
        feeds[1]["x"][0, 0, 0, 0] = bad
        with pytest.raises(DataError, match="sample 1 makes"):
            Equalize().apply(b.graph, Context(calibration=feeds))
