"""Rotations at run time: where they go, that they are exact, and what they gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, doubled, network, random_feed

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.ir import Graph, Value, evaluate
from qc.ir.actions import mix
from qc.ir.errors import DataError, PassError, PreconditionError
from qc.ir.verify import verify
from qc.passes import Context, PassManager
from qc.passes.measure import relative_difference, sqnr_db
from qc.passes.recipe import load_recipe
from qc.passes.rotate import Rotate
from qc.passes.rotation.online import smoothing
from qc.targets import load

CHANNELS, STATES, TIME = 24, 4, 10
FLOAT32, FLOAT64 = 1e-4, 1e-9


def scan(b: Builder, u: Value) -> Value:
    """A selective scan whose channels differ by far."""
    rows, columns = (b.op("MatMul", u, b.normal(CHANNELS, STATES)) for _ in range(2))
    delta = b.op("MatMul", u, b.normal(CHANNELS, CHANNELS))
    decay = b.const(-b.rng.uniform(0.5, 2, (CHANNELS, STATES)), "decay")
    size = b.const(np.where(np.arange(CHANNELS) % 8 == 0, 30.0, 1.0), "d")
    return b.op("SelectiveScan", u, delta, decay, rows, columns, size, softplus=True)


def mixer(between: str = "", dtype: str = "float32") -> Builder:
    """A layer, a scan, perhaps something elementwise, a layer."""
    b = Builder((1, TIME, 6), dtype=dtype)
    u = b.op("Silu", b.op("MatMul", b.x, b.normal(6, CHANNELS)))
    y = scan(b, u)
    if between == "sum":
        y = b.op("Add", y, scan(b, u))
    if between == "gate":
        y = b.op("Mul", y, b.op("Sigmoid", b.op("MatMul", b.x, b.normal(6, CHANNELS))))
    if between == "function":
        y = b.op("Tanh", y)
    b.done(b.op("MatMul", y, b.normal(CHANNELS, 5)))
    return b


def feeds(graph: Graph, count: int = 8) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [random_feed(graph, rng) for _ in range(count)]


def apart(graph: Graph, other: Graph) -> float:
    feed = feeds(graph, 1)[0]
    return relative_difference([*evaluate(graph, feed).values()], [*evaluate(other, feed).values()])


def turned(graph: Graph, **options: str) -> tuple[Graph, dict, Context]:
    work, context = graph.copy(), Context(calibration=feeds(graph))
    found = Rotate(**options).apply(work, context)
    verify(work)
    return work, found, context


def hadamards(graph: Graph) -> list[str]:
    """What is read by a layer through a Hadamard: the op before it."""
    nodes = [n for n in graph.nodes if n.op.name == "Hadamard"]
    assert all(graph.sole_use(n.output).op.name == "MatMul" for n in nodes)
    return [n.operands[0].producer.op.name for n in nodes]


@pytest.mark.parametrize("between", ["", "sum", "gate"])
def test_behind_a_scan(between: str) -> None:
    for dtype, bar in (("float32", FLOAT32), ("float64", FLOAT64)):
        graph = mixer(between, dtype).graph
        work, found, context = turned(graph, online="scans")
        assert found["online"] == 1
        assert hadamards(work) == ["Mul"]
        assert apart(graph, work) <= bar
        last = work.nodes[-1].operands[1].name
        assert (last, 0) in context.rotated


def test_other_layers_are_left_alone_unless_all_are_asked_for() -> None:
    graph = mixer("function").graph
    assert turned(graph, online="scans")[1]["online"] == 0
    work, found, _ = turned(graph, online="all")
    assert found["online"] == 4  # the last, and three that read the channels of the first
    assert set(hadamards(work)) == {"Silu", "Tanh"}
    assert apart(graph, work) <= FLOAT32
    plain, found, _ = turned(graph)
    assert found["online"] == 0
    assert not hadamards(plain)


def test_what_weights_turn_is_not_turned_again() -> None:
    b = Builder((2, 10, 8))
    y = b.op("MatMul", b.op("MatMul", b.x, b.normal(8, 24)), b.normal(24, 32))
    b.done(b.op("MatMul", b.op("Relu", y), b.normal(32, 5)))
    work, found, _ = turned(b.graph, online="all")
    assert (found["rewrites"], found["online"]) == (2, 1)
    assert hadamards(work) == ["Relu"]


def test_channels_are_even_then() -> None:
    """The greatest of a channel over the root mean square of all."""
    graph = mixer().graph
    work, _, _ = turned(graph, online="scans")
    reach = []
    for one in (graph, work):
        name = one.nodes[-1].operands[0].name
        x = np.concatenate([evaluate(one, f, [name])[name].ravel() for f in feeds(graph)])
        reach.append(np.abs(x).max() / np.sqrt(np.square(x).mean()))
    assert reach[1] < 0.6 * reach[0]


def test_the_factors_are_those_of_least_noise() -> None:
    """No other factors make the product of both sums of squares smaller."""
    rng = np.random.default_rng(0)
    graph = mixer().graph
    weight = np.asarray(graph.nodes[-1].operands[1].data, np.float64)
    square = rng.uniform(0.01, 4, CHANNELS) ** 2
    energy = np.square(weight).sum(1)

    def noise(s: np.ndarray) -> float:
        return float((square / s**2).sum() * (s**2 * energy).sum())

    s = smoothing(square, [graph.nodes[-1]])
    assert np.prod(s) == pytest.approx(1)
    assert all(noise(s) < noise(s * np.exp(rng.normal(0, 0.1, CHANNELS))) for _ in range(50))


def test_channels_without_any_size_stay() -> None:
    graph = mixer().graph
    assert (smoothing(np.zeros(CHANNELS), [graph.nodes[-1]]) == 1).all()
    s = smoothing(np.eye(1, CHANNELS)[0], [graph.nodes[-1]])
    assert np.isfinite(s).all()
    assert s.max() / s.min() < 1e3


def test_only_products_with_a_constant_matrix_can_undo_it() -> None:
    b = Builder((1, 8, 8))
    square = b.op("MatMul", b.x, b.x)
    b.done(square, b.op("Relu", b.x))
    for node in b.graph.nodes:
        with pytest.raises(PassError, match="nothing undoes a turn"):
            mix(b.graph, node)


def test_a_shared_matrix_stays_for_others() -> None:
    b = Builder((1, 5, 8))
    w = b.normal(8, 8)
    y = b.op("MatMul", b.x, w)
    b.done(b.op("MatMul", b.op("Relu", y), w))
    work = b.graph.copy()
    mix(work, work.nodes[-1])
    verify(work)
    assert apart(b.graph, work) <= 1e-6


def test_scans_need_data_and_choices_are_known() -> None:
    with pytest.raises(DataError, match="needs calibration data"):
        Rotate("hadamard", "scans").apply(mixer().graph, Context())
    with pytest.raises(PreconditionError, match="no choice online 'scan'"):
        Rotate(online="scan")


def test_a_draft_has_the_same_kernels() -> None:
    assert Rotate().draft() is None
    assert Rotate(online="all").draft() == Rotate("hadamard", "all")


@pytest.mark.slow
@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize(
    ("name", "scans", "layers"),
    [("mamba_shakespeare_outliers_all", 3, 6), ("vit_cifar10", 0, 6), ("stories260k_T128", 0, 0)],
)
def test_real_networks(name: str, scans: int, layers: int) -> None:
    single = network(name)
    for graph, bar in ((single, FLOAT32), (doubled(single), FLOAT64)):
        for choice, count in (("scans", scans), ("all", layers)):
            work, found, _ = turned(graph, method="hadamard", online=choice)
            assert found["online"] == count
            assert apart(graph, work) <= bar


def gated(b: Builder, gate: Value) -> Graph:
    """A scan with a gate of its own, and the layer behind it."""
    u = b.op("Silu", b.op("MatMul", b.x, b.normal(6, CHANNELS)))
    node = scan(b, u).producer
    b.graph.set_inputs(node, [*node.inputs, gate])
    return b.done(b.op("MatMul", node.output, b.normal(CHANNELS, 5)))


@pytest.mark.parametrize("own", [True, False])
def test_a_gate_takes_the_factors_where_its_layer_can(own: bool) -> None:
    for dtype, bar in (("float32", FLOAT32), ("float64", FLOAT64)):
        b = Builder((1, TIME, 6), dtype=dtype)
        gate = b.op("MatMul", b.x, b.normal(6, CHANNELS))
        graph = gated(b, gate if own else b.op("Tanh", gate))
        work, found, _ = turned(graph, online="scans")
        assert found["online"] == 1
        assert hadamards(work) == ["SelectiveScan" if own else "Mul"]
        (found_scan,) = (n for n in work.nodes if n.op.name == "SelectiveScan")
        assert len(found_scan.inputs) == (10 if own else 7)
        if own:
            assert np.ptp(np.log(found_scan.inputs[9].data)) > 0.5
        assert apart(graph, work) <= bar


@pytest.mark.parametrize("recipe", ["mamba-w8a8", "mamba-w4a8"])
def test_recipes_compile(recipe: str, tmp_path: Path) -> None:
    b = Builder((1, TIME, 6))
    graph = gated(b, b.op("MatMul", b.x, b.normal(6, CHANNELS)))
    data = feeds(graph)
    context = Context(calibration=data, verify=True)
    small, _ = PassManager(load_recipe(recipe).passes).run(graph, context)
    kinds = [n.op.name for n in small.nodes]
    assert (kinds.count("Hadamard"), kinds.count("Mul")) == (1, 0)
    assert kinds.count("QMatMul") == 6
    codes = [v.data for n in small.nodes if n.op.name == "QMatMul" for v in n.operands[1:2]]
    top = max(int(np.abs(c.astype(int)).max()) for c in codes)
    assert top == (127 if recipe == "mamba-w8a8" else 7)
    build(small, load("host"), tmp_path / "out")
    found = Artifact.load(tmp_path / "out").run(data[0])
    want = evaluate(small, data[0])
    assert sqnr_db([*want.values()], [*found.values()]) > 40
    assert sqnr_db([*evaluate(graph, data[0]).values()], [*want.values()]) > 10
