"""Channels turned by orthogonal matrices: exact, even, and refused where it would be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, doubled, network, random_feed

from qc.ir import Graph, Value, evaluate
from qc.ir.actions import rotate
from qc.ir.actions.rewritten import rewritten
from qc.ir.actions.rotate import rotated
from qc.ir.coupling import Action, Sites
from qc.ir.errors import DataError, PassError, PreconditionError
from qc.ir.verify import verify
from qc.passes import Canonicalize, Context, PassManager
from qc.passes.measure import relative_difference
from qc.passes.rotate import Rotate
from qc.passes.rotation.matrices import METHODS
from qc.passes.rotation.means import bake_means
from qc.passes.rotation.norms import fold_norms
from qc.passes.rotation.spread import reads

Feeds = list[dict[str, np.ndarray]]
WIDTH, TOKENS = 24, 10
FLOAT32, FLOAT64 = 1e-4, 1e-9


def gammas(b: Builder, width: int = WIDTH) -> np.ndarray:
    """Weights of a norm with two outliers, one of them negative."""
    gamma = b.rng.uniform(0.5, 1.5, width)
    gamma[3], gamma[7] = 40.0, -25.0
    return gamma


def norm(b: Builder, kind: str, x: Value, gamma: np.ndarray | None = None) -> Value:
    """A normalisation with outliers in its weight."""
    gamma = gammas(b, x.shape[-1]) if gamma is None else gamma
    weights = [b.const(gamma, "gamma")]
    if kind == "LayerNormalization":
        weights.append(b.const(b.rng.normal(0, 1, len(gamma)), "beta"))
    return b.op(kind, x, *weights)


def stream(kind: str, hidden: int = 16, blocks: int = 2, dtype: str = "float32") -> Builder:
    """A residual stream that norms and layers read and write; layers end in a bottleneck."""
    b = Builder((2, TOKENS, 8), dtype=dtype)
    x = b.op("MatMul", b.x, b.normal(8, WIDTH))
    x = b.op("Add", x, b.const(b.rng.normal(0, 0.5, (TOKENS, WIDTH)), "position"))
    for _ in range(blocks):
        inner = b.op("Relu", b.op("MatMul", norm(b, kind, x), b.normal(WIDTH, 32)))
        inner = b.op("MatMul", b.op("MatMul", inner, b.normal(32, hidden)), b.normal(hidden, WIDTH))
        x = b.op("Add", x, inner)
    b.done(b.op("MatMul", norm(b, kind, x), b.normal(WIDTH, 5)))
    return b


def feeds(graph: Graph, count: int = 16) -> Feeds:
    rng = np.random.default_rng(5)
    return [random_feed(graph, rng) for _ in range(count)]


def apart(graph: Graph, other: Graph, data: Feeds) -> float:
    before, after = ([a for f in data for a in evaluate(g, f).values()] for g in (graph, other))
    return relative_difference(before, after)


def turned(graph: Graph, data: Feeds | None = None, **options: str) -> tuple[Graph, dict, Context]:
    work, context = graph.copy(), Context(calibration=data)
    found = Rotate(**options).apply(work, context)
    verify(work)
    return work, found, context


def variance(graph: Graph, names: list[str], data: Feeds) -> np.ndarray:
    """Per channel, of values with channels last, the mean over values."""
    seen: dict[str, list[np.ndarray]] = {n: [] for n in names}
    for f in data:
        for n, x in evaluate(graph, f, names).items():
            seen[n].append(x.reshape(-1, x.shape[-1]).astype(np.float64))
    return np.mean([np.concatenate(x).var(0) for x in seen.values()], 0)


# -- exactness --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RMSNormalization", "LayerNormalization"])
@pytest.mark.parametrize("method", METHODS)
def test_the_function_stays(method: str, kind: str) -> None:
    for dtype, bar in (("float32", FLOAT32), ("float64", FLOAT64)):
        graph = stream(kind, dtype=dtype).graph
        data = feeds(graph)
        work, found, _ = turned(graph, data, method=method)
        assert found["rewrites"] == 3  # the stream, and a bottleneck per block
        assert found["channels"] == WIDTH + 2 * 16
        assert apart(graph, work, data) <= bar
        assert all(
            str(a.data) != str(work[a.name].data) for a in graph.constants if a.type.rank == 2
        )


def test_layer_norms_become_rms_norms() -> None:
    graph = stream("LayerNormalization").graph
    data = feeds(graph)
    work, found, _ = turned(graph, data)
    assert (found["norms"], found["means"], found["held"]) == (3, 3, 0)
    norms = [n for n in work.nodes if n.op.name.endswith("Normalization")]
    assert [n.op.name for n in norms] == ["RMSNormalization"] * 3
    assert all((n.operands[1].data == 1).all() and len(n.operands) == 2 for n in norms)
    assert apart(graph, work, data) <= FLOAT32


def test_layers_that_write_a_stream_of_layer_norms_lose_its_mean() -> None:
    graph = stream("LayerNormalization").graph
    work = fold_norms(graph).graph
    assert bake_means(work, {}) == 3
    for one, mean in ((graph, True), (work, False)):
        norms = [n for n in one.nodes if n.op.name.endswith("Normalization")]
        name = norms[-1].operands[0].name
        x = evaluate(one, feeds(graph)[0], [name])[name]
        assert (np.abs(x.mean(-1)).max() > 0.01 * np.abs(x).max()) == mean
        assert np.abs(x.mean(-1)).max() < (1 if mean else 1e-6) * np.abs(x).max()


def test_an_outlier_of_the_weights_of_a_norm_is_gone() -> None:
    graph = stream("RMSNormalization").graph
    data = feeds(graph)
    work, _, _ = turned(graph, data, method="hadamard")
    for one, worst in ((graph, 100), (work, 4)):
        name = next(n.output.name for n in one.nodes if n.op.name == "RMSNormalization")
        spread = variance(one, [name], data)
        assert (spread.max() / np.median(spread) > 100) == (worst == 100)
        assert spread.max() / np.median(spread) < worst * 100


# -- what the methods promise -----------------------------------------------------------------


def test_klt_and_hadamard_make_channels_of_equal_variance() -> None:
    graph = stream("RMSNormalization").graph
    data = feeds(graph)
    ratios = {}
    for method in METHODS:
        work, _, _ = turned(graph, data, method=method)
        names = [n.output.name for n in work.nodes if n.op.name == "RMSNormalization"]
        found = variance(work, names, data)
        ratios[method] = found.max() / found.min()
    assert ratios["klt-hadamard"] <= 1.001
    assert ratios["hadamard"] > 1.05
    assert ratios["klt"] > ratios["hadamard"]


def test_klt_makes_channels_uncorrelated() -> None:
    graph = stream("RMSNormalization").graph
    data = feeds(graph)
    work, _, _ = turned(graph, data, method="klt")
    layers = [n for n in work.nodes if n.op.name == "MatMul"]
    inner = next(n.operands[0].name for n in layers if n.operands[1].shape == (16, WIDTH))
    rows = np.concatenate([evaluate(work, f, [inner])[inner].reshape(-1, 16) for f in data])
    spread = np.cov(rows.astype(np.float64).T)
    off = spread - np.diag(np.diag(spread))
    assert np.abs(off).max() < 1e-4 * np.diag(spread).max()
    assert np.all(np.diff(np.diag(spread)) < 0)  # the greatest first


@pytest.mark.parametrize("method", METHODS)
def test_a_size_without_hadamard_matrix_is_reported(method: str) -> None:
    graph = stream("RMSNormalization", hidden=6).graph
    data = feeds(graph)
    work, found, _ = turned(graph, data, method=method)
    assert found["without_hadamard"] == (0 if method == "klt" else 2)
    assert apart(graph, work, data) <= FLOAT32


def test_the_seed_decides() -> None:
    graph = stream("RMSNormalization").graph
    first, again, other = graph.copy(), graph.copy(), graph.copy()
    for work, seed in ((first, 1), (again, 1), (other, 2)):
        Rotate("hadamard").apply(work, Context(seed=seed))
    assert str(first) == str(again) != str(other)


def test_rotated_axes_are_remembered() -> None:
    graph = stream("RMSNormalization").graph
    work, _, context = turned(graph, method="hadamard")
    assert len(context.rotated) == 1 + 1 + 2 * 4 + 1  # written, table, per block, read by the last
    for name, axis in context.rotated:
        assert work[name].is_constant
        assert work[name].shape[axis] in (WIDTH, 16)


# -- what is refused --------------------------------------------------------------------------


def test_rotation_through_a_layer_norm_is_refused_and_would_be_wrong() -> None:
    graph = stream("LayerNormalization", blocks=1, dtype="float64").graph
    sites = Sites(graph, Action.ROTATE)
    site = max(sites.groups, key=lambda s: len(s.weights))
    assert site.why == "LayerNormalization statistic"
    matrix = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0]
    with pytest.raises(PassError, match="cannot be rotated: LayerNormalization statistic"):
        rotate(sites, [(site, matrix)])
    plain = fold_norms(graph).graph  # the weights are folded, the mean is not
    for one in (graph, plain):
        sites = Sites(one, Action.ROTATE)
        before = [s for s in sites.groups if s.why == "LayerNormalization statistic"]
        turns = [(s, matrix) for s in before if len(s) == WIDTH and s.weights]
        assert turns
        wrong = rewritten(one, lambda v, d, s=sites, t=turns: rotated(s, v, d, t))
        assert apart(graph, wrong, feeds(graph)) > 0.1


def test_rotation_through_the_weight_of_a_norm_would_be_wrong() -> None:
    graph = stream("RMSNormalization", blocks=1, dtype="float64").graph
    sites = Sites(graph, Action.ROTATE)
    held = [s for s in sites.groups if s.why == "RMSNormalization weight is not folded"]
    turns = [(s, np.linalg.qr(np.ones((WIDTH, WIDTH)) + np.eye(WIDTH))[0]) for s in held]
    wrong = rewritten(graph, lambda v, d: rotated(sites, v, d, turns))
    assert apart(graph, wrong, feeds(graph)) > 0.1


def test_a_stream_that_somebody_reads_with_its_mean_keeps_its_norms() -> None:
    b = stream("LayerNormalization", blocks=1)
    read = next(n for n in b.graph.nodes if n.op.name == "Add").output
    b.done(*b.graph.outputs, b.op("MatMul", read, b.normal(WIDTH, 3)))
    data = feeds(b.graph)
    work, found, _ = turned(b.graph, data, method="hadamard")
    assert (found["means"], found["held"], found["rewrites"]) == (0, 2, 1)
    assert apart(b.graph, work, data) <= FLOAT32
    kinds = {n.op.name for n in work.nodes if n.op.name.endswith("Normalization")}
    assert kinds == {"LayerNormalization"}


@pytest.mark.parametrize("where", ["output", "function"])
def test_a_stream_with_a_mean_that_no_weight_makes_keeps_its_norms(where: str) -> None:
    b = Builder((2, TOKENS, 8))
    x = b.op("MatMul", b.x, b.normal(8, WIDTH))
    x = b.op("Add", x, b.op("Sigmoid", x)) if where == "function" else b.op("Identity", x)
    y = b.op("MatMul", norm(b, "LayerNormalization", x), b.normal(WIDTH, 3))
    b.done(y, x) if where == "output" else b.done(y)
    data = feeds(b.graph)
    work, found, _ = turned(b.graph, data, method="hadamard")
    assert (found["means"], found["held"], found["rewrites"]) == (0, 1, 0)
    assert str(work) == str(b.graph)


def test_a_weight_of_zero_cannot_be_folded() -> None:
    b = Builder((2, TOKENS, 8))
    x = b.op("MatMul", b.x, b.normal(8, WIDTH))
    gamma = gammas(b)
    gamma[5] = 0
    b.done(b.op("MatMul", norm(b, "RMSNormalization", x, gamma), b.normal(WIDTH, 3)))
    folded = fold_norms(b.graph)
    assert list(folded.kept.values()) == ["its weight cannot be folded: a factor is zero"]


def test_a_negative_weight_before_a_function_cannot_be_folded() -> None:
    b = Builder((2, TOKENS, 8))
    x = b.op("MatMul", b.x, b.normal(8, WIDTH))
    y = b.op("Relu", norm(b, "RMSNormalization", x))
    b.done(b.op("MatMul", y, b.normal(WIDTH, 3)))
    folded = fold_norms(b.graph)
    (why,) = folded.kept.values()
    assert "Relu" in why
    assert str(folded.graph) == str(b.graph)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(PreconditionError, match=r"no method 'klt-hadamar'.*klt-hadamard"):
        Rotate("klt-hadamar")


def test_covariances_need_data() -> None:
    with pytest.raises(DataError, match="needs calibration data"):
        turned(stream("RMSNormalization").graph, method="klt")


def test_data_that_are_not_finite_are_refused() -> None:
    graph = stream("RMSNormalization").graph
    data = feeds(graph, 2)
    data[1]["x"][0, 0, 0] = np.inf
    with pytest.raises(DataError, match="sample 1"):
        turned(graph, data)


# -- the pass in its place --------------------------------------------------------------------


def test_the_manager_verifies_that_it_is_exact() -> None:
    graph = stream("LayerNormalization").graph
    context = Context(calibration=feeds(graph), verify=True)
    _, ledger = PassManager([Canonicalize(), Rotate()]).run(graph, context)
    row = ledger.rows[-1]
    assert (row.name, row.kind.value, row.rewrites) == ("rotate", "exact", 3)


REAL = {
    "mamba_shakespeare_scan": 4,
    "mamba_shakespeare_plain": 4,
    "mamba_shakespeare_outliers": 4,
    "mamba_shakespeare_outliers_all": 4,
    "mobilenet_v2_1.0_224_quant_deq": 7,
    "stories260k_T128": 6,
    "vit_cifar10": 7,
    "vit_cifar10_outliers": 7,
}
"""Networks of the zoo that have sites, and how many: one residual stream each but MobileNetV2."""


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize("name", REAL)
def test_real_networks(name: str) -> None:
    graph = network(name)
    work, found, _ = turned(graph, method="hadamard")
    assert (found["rewrites"], found["held"]) == (REAL[name], 0)
    assert apart(graph, work, feeds(graph, 1)) <= FLOAT32


@pytest.mark.slow
@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize("name", REAL)
def test_real_networks_in_float64(name: str) -> None:
    graph = doubled(network(name))
    data = feeds(graph, 1)
    for method in METHODS:
        work, _, _ = turned(graph, data, method=method)
        assert apart(graph, work, data) <= FLOAT64


@pytest.mark.slow
@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize("name", ["mamba_shakespeare_outliers", "vit_cifar10_outliers"])
def test_variance_of_real_networks(name: str) -> None:
    graph = network(name)
    data = feeds(graph, 8)
    work, _, _ = turned(graph, data)
    sites = Sites(work, Action.ROTATE)
    site = max(sites.free(), key=len)
    found = variance(work, [read.value for read in reads(work, sites, site)], data)
    assert found.max() / found.min() <= 1.001
