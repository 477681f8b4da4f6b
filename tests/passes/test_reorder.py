"""Channels sorted for blocks: exact, never worse, pairs stay together, others are refused."""

from __future__ import annotations

import numpy as np
import pytest
from attention import TOKENS, WIDTH, attention
from graphs import Builder
from zoo_networks import ZOO, network, random_feed

from qc.ir import Graph, evaluate
from qc.ir.actions import permute
from qc.ir.coupling import Coupling
from qc.ir.errors import PassError, PreconditionError
from qc.ir.formats import parse
from qc.ir.verify import verify
from qc.passes import Canonicalize, Context, FoldBatchNorm, PassManager
from qc.passes.encode import EncodeFormats
from qc.passes.measure import relative_difference
from qc.passes.reorder import Reorder

Feeds = list[dict[str, np.ndarray]]


def feeds(shape: tuple[int, ...] = (1, TOKENS, WIDTH), count: int = 4) -> Feeds:
    rng = np.random.default_rng(5)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def apart(graph: Graph, other: Graph, data: Feeds) -> float:
    before, after = ([a for f in data for a in evaluate(g, f).values()] for g in (graph, other))
    return relative_difference(before, after)


def reordered(
    graph: Graph, encode: EncodeFormats, data: Feeds | None = None, **options: object
) -> tuple[Graph, dict]:
    work = graph.copy()
    context = Context(calibration=data, after=(encode,))
    found = Reorder(**options).apply(work, context)  # type: ignore[arg-type]
    verify(work)
    return work, found


def mlp(outliers: bool = True) -> Builder:
    """64 hidden channels, every eighth of them 8 times as large."""
    b = Builder((6, 16))
    size = np.where(np.arange(64) % 8 == 0, 8.0, 1.0) if outliers else np.ones(64)
    w = b.const(b.rng.normal(0, 0.3, (16, 64)) * size)
    b.done(b.op("MatMul", b.op("Relu", b.op("MatMul", b.x, w)), b.normal(64, 8)))
    return b


def lost(graph: Graph, name: str, data: Feeds) -> float:
    """Relative energy of what a format loses of the hidden channels (of the last Relu)."""
    hidden = next(n.output.name for n in graph.nodes if n.op.name == "Relu")
    error = total = 0.0
    for f in data:
        x = evaluate(graph, f, [hidden])[hidden]
        error += float(np.square(parse(name).round(x) - x).sum())
        total += float(np.square(x).sum())
    return error / total


def test_large_channels_come_together() -> None:
    b, data = mlp(), feeds((6, 16))
    work, found = reordered(b.graph, EncodeFormats(activations="bfp4-8"), data)
    assert apart(b.graph, work, data) < 1e-6
    assert lost(work, "bfp4-8", data) < 0.75 * lost(b.graph, "bfp4-8", data)
    assert found["rewrites"] == 1
    assert found["error_after"] < found["error_before"]
    sizes = np.linalg.norm(work.nodes[0].operands[1].data, axis=0)
    assert np.flatnonzero(sizes > sizes.mean()).tolist() == list(range(8))


def test_the_objective_is_what_the_formats_lose() -> None:
    """Of the input, of both weights and of what lies between them."""
    b, data = mlp(), feeds((6, 16))
    encode = EncodeFormats("bfp4-8", "bfp4-8")
    work, found = reordered(b.graph, encode, data)
    for graph, key in ((b.graph, "error_before"), (work, "error_after")):
        total = lost(graph, "bfp4-8", data)
        arrays = [(w.data, 0) for w in graph.constants]
        arrays.append((np.concatenate([f["x"] for f in data]), 1))
        for x, axis in arrays:
            gap = parse("bfp4-8").round(x, axis) - x
            total += np.square(gap).sum() / np.square(x).sum()
        assert found[key] == pytest.approx(total, rel=1e-5)


def test_what_one_block_holds_stays_as_it_is() -> None:
    b = mlp()
    work, found = reordered(b.graph, EncodeFormats(activations="bfp4-64"), feeds((6, 16)))
    assert found["rewrites"] == 0
    assert str(work) == str(b.graph)


def test_without_data_weights_decide() -> None:
    b = Builder((6, 16))
    size = np.where(np.arange(64) % 8 == 0, 8.0, 1.0)
    first = b.op("MatMul", b.x, b.normal(16, 64))
    w = b.const(b.rng.normal(0, 0.3, (64, 8)) * size[:, None])
    b.done(b.op("MatMul", b.op("Relu", first), w))
    work, found = reordered(b.graph, EncodeFormats("bfp4-8", "bfp4-8"))
    assert found["error_after"] < 0.9 * found["error_before"]
    assert apart(b.graph, work, feeds((6, 16))) < 1e-6


def test_convolutions() -> None:
    """A depthwise one moves with what lies before and behind it."""
    b = Builder((1, 3, 8, 8))
    y = b.op("Relu", b.conv(b.op("Relu", b.conv(b.x, 32)), 32, group=32))
    size = np.where(np.arange(32) % 4 == 0, 16.0, 1.0).reshape(1, 32, 1, 1)
    w = b.const(b.rng.normal(0, 0.3, (8, 32, 3, 3)) * size)
    b.done(b.op("Conv", y, w, pads=(1, 1, 1, 1)))
    work, found = reordered(b.graph, EncodeFormats("bfp4-8"))
    assert found["rewrites"] == 1
    assert found["error_after"] < 0.95 * found["error_before"]
    moved = [v.shape for v in work.constants if not _same(v, b.graph[v.name])]
    assert {(32, 3, 3, 3), (32, 1, 3, 3), (8, 32, 3, 3)} <= set(moved)
    assert apart(b.graph, work, feeds((1, 3, 8, 8))) < 1e-6


def test_an_order_that_loses_more_is_not_taken() -> None:
    """Large channels of unlike sizes keep their precision beside small ones: sorting costs it."""
    b = Builder((6, 16))
    rng = np.random.default_rng(1)
    data = [{"x": np.float32(rng.standard_normal((6, 16)) ** 5)} for _ in range(4)]
    b.done(b.op("MatMul", b.op("Relu", b.op("MatMul", b.x, b.normal(16, 64))), b.normal(64, 8)))
    work, found = reordered(b.graph, EncodeFormats(activations="bfp4-8"), data)
    assert found["error_after"] <= found["error_before"]
    assert (str(work) == str(b.graph)) == (found["rewrites"] == 0)


# -- attentions -------------------------------------------------------------------------------

CACHES = EncodeFormats(caches="bfp4-8")


def score_error(graph: Graph, data: Feeds, encode: EncodeFormats = CACHES) -> float:
    """Relative energy of the error of queries times keys."""
    encoded = graph.copy()
    encode.apply(encoded, Context())
    error = total = 0.0
    for f in data:
        before, after = (evaluate(g, f, ["scores"])["scores"] for g in (graph, encoded))
        error += float(np.square(after - before).sum())
        total += float(np.square(before).sum())
    return error / total


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("tables", ["shared", "per-head"])
def test_rotary_pairs_move_together_with_their_tables(half: bool, tables: str) -> None:
    graph, data = attention(pairs=16, half=half, spread=8.0), feeds()
    work, found = reordered(graph, CACHES, data, tables=tables)
    assert apart(graph, work, data) < 1e-6
    assert found["rewrites"] >= 2
    assert found["error_after"] < found["error_before"]
    assert score_error(work, data) < score_error(graph, data)
    moved = [v.name for v in work.constants if v.name in graph and not _same(v, graph[v.name])]
    assert {"wk", "cos", "sin"} <= {name.split(".")[0] for name in moved} | (
        {"cos", "sin"} if tables == "per-head" else set()
    )


def _same(a, b) -> bool:
    return a.data.shape == b.data.shape and np.array_equal(a.data, b.data)


def test_every_head_for_itself_is_better_and_costs_tables() -> None:
    graph, data = attention(pairs=16, spread=8.0), feeds()
    _, shared = reordered(graph, CACHES, data)
    work, separate = reordered(graph, CACHES, data, tables="per-head")
    assert separate["error_after"] < shared["error_after"]
    assert shared["added_bytes"] <= 0 < separate["added_bytes"]
    assert {v.shape for v in work.constants if v.name.startswith("cos")} == {
        (1, TOKENS, 2, 16), (1, TOKENS, 4, 16),
    }  # fmt: skip


@pytest.mark.parametrize("half", [False, True])
def test_what_was_promised_is_what_the_graph_has(half: bool) -> None:
    """The samples that followed the moves are those of the moved graph."""
    graph, data = attention(pairs=16, half=half, spread=8.0), feeds()
    encode = EncodeFormats("bfp4-8", "bfp4-8", caches="bfp4-8")
    for tables in ("shared", "per-head"):
        work, found = reordered(graph, encode, data, tables=tables)
        assert found["rewrites"] >= 2
        _, again = reordered(work, encode, data)
        assert again["error_before"] == pytest.approx(found["error_after"], rel=1e-3)


def test_a_block_of_all_heads_leaves_the_attention_alone() -> None:
    graph, data = attention(pairs=2, spread=8.0), feeds()
    for tables in ("shared", "per-head"):
        work, found = reordered(graph, CACHES, data, tables=tables)
        assert (found["rewrites"], found["added_bytes"]) == (0, 0)
        assert str(work) == str(graph)


@pytest.mark.parametrize("half", [False, True])
def test_a_permutation_across_pairs_is_refused_and_would_be_wrong(half: bool) -> None:
    """The channel of one pair in the place of another's: what no rotation by the tables undoes."""
    graph, data = attention(pairs=4, half=half), feeds()
    coupling = Coupling(graph)
    wk, wq = graph["wk"], graph.nodes[0].operands[1]
    inner = next(
        g for g in coupling.groups
        if g.fixed and len(g) == 2 and any(p.value is wk for p in g.places)
    )  # fmt: skip
    source = np.arange(coupling.count)
    source[inner.channels] = inner.channels[::-1]
    with pytest.raises(PassError, match="cannot change places: selected by number"):
        permute(coupling, source)
    pairs = next(
        g for g in coupling.permutable() if len(g) == 4 and any(p.value is wk for p in g.places)
    )
    source = np.arange(coupling.count)
    source[pairs.channels[0]], source[inner.channels[0]] = inner.channels[0], pairs.channels[0]
    with pytest.raises(PassError, match="must stay in their group"):
        permute(coupling, source)
    wrong = graph.copy()
    order = np.arange(8)
    order[[0, 3]] = order[[3, 0]]
    for name, heads in ((wk.name, 2), (wq.name, 4)):
        grid = graph[name].data.reshape(WIDTH, heads, 8)[:, :, order]
        wrong.assign(wrong[name], grid.reshape(WIDTH, heads * 8))
    assert apart(graph, wrong, data) > 0.01


def test_pairs_without_their_tables_would_be_wrong() -> None:
    graph, data = attention(pairs=16, spread=8.0), feeds()
    work, _ = reordered(graph, CACHES, data)
    for name in ("cos", "sin"):
        work.assign(work[name], graph[name].data)
    assert apart(graph, work, data) > 0.01


# -- the pass ---------------------------------------------------------------------------------


def test_rotated_axes_are_left_alone() -> None:
    b, data = mlp(), feeds((6, 16))
    work = b.graph.copy()
    encode = EncodeFormats(activations="bfp4-8")
    context = Context(calibration=data, after=(encode,))
    context.rotated.add((b.graph.constants[1].name, 0))
    found = Reorder().apply(work, context)
    assert (found["rewrites"], found["rotated"]) == (0, 1)
    assert str(work) == str(b.graph)


def test_it_needs_formats_to_sort_for() -> None:
    context = Context(calibration=feeds((6, 16)))
    with pytest.raises(PreconditionError, match="put one behind it"):
        PassManager([Canonicalize(), Reorder()]).run(mlp().graph, context)


@pytest.mark.parametrize("options", [{"tables": "own"}, {"samples": 0}])
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(PreconditionError, match=r"reorder\.(tables|samples)"):
        Reorder(**options)


def test_the_manager_verifies_that_it_is_exact() -> None:
    graph, data = attention(pairs=16, spread=8.0), feeds()
    context = Context(calibration=data, verify=True)
    passes = [Canonicalize(), Reorder(), CACHES]
    _, ledger = PassManager(passes).run(graph, context)
    row = ledger.rows[2]
    assert (row.name, row.kind.value) == ("reorder", "exact")
    assert row.statistics["error_after"] < row.statistics["error_before"]


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize("name", ["stories260k_T128", "resnet20_cifar10", "vit_cifar10"])
def test_real_networks(name: str) -> None:
    graph = network(name)
    FoldBatchNorm().apply(graph, Context())
    data = [random_feed(graph, np.random.default_rng(0))]
    encode = EncodeFormats("bfp6-16", "bfp8-16", caches="bfp4-16")
    work, found = reordered(graph, encode, data)
    assert found["rewrites"] > 0
    assert found["error_after"] < found["error_before"]
    assert apart(graph, work, data) < 1e-5


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize(("block", "moves"), [(16, True), (32, False), (64, False)])
def test_keys_of_a_llama(block: int, moves: bool) -> None:
    """A token has 4 x 8 numbers: whole blocks of them can gain nothing, smaller ones lose less."""
    graph = network("stories260k_T128")
    rng = np.random.default_rng(0)
    data = [random_feed(graph, rng) for _ in range(2)]
    work, found = reordered(graph, EncodeFormats(caches=f"bfp4-{block}"), data)
    assert (found["rewrites"] > 0) == moves == (found["error_after"] < found["error_before"])
    assert (str(work) == str(graph)) == (not moves)
    assert apart(graph, work, data) < 1e-5
