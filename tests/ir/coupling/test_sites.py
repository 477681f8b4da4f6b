"""Scaled, shifted and rotated channels change nothing; what would change something is refused."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo_networks import random_feed

from qc.ir.actions import rotate, scale, shift
from qc.ir.actions.rewritten import rewritten
from qc.ir.actions.scale import scaled
from qc.ir.coupling import Action, Site, Sites
from qc.ir.errors import PassError
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph

from .moving import ACTIONS, Known, Move, apart, relative
from .random_float_networks import Maps, encoder, transformer

EXACT = 1e-9
"""For networks in float64."""


def check(graph: Graph, seed: int) -> int:
    """All sites of all actions at once; how many there are."""
    rng = np.random.default_rng(seed)
    feed, total = random_feed(graph, rng), 0
    for action in ACTIONS:
        sites = Sites(graph, action)
        free = sites.free()
        total += len(free)
        if free:
            outputs, tensors = apart(Move(sites, free, rng), feed)
            assert outputs <= EXACT
            assert tensors <= EXACT
    return total


@settings(max_examples=300)
@given(st.integers(0, 10**9))
def test_random_maps(seed: int) -> None:
    check(Maps(seed).grow(1 + seed % 12), seed)


@settings(max_examples=100)
@given(st.integers(0, 10**9))
def test_random_decoders(seed: int) -> None:
    assert check(transformer(seed), seed) >= 4


@settings(max_examples=100)
@given(st.integers(0, 10**9))
def test_random_encoders(seed: int) -> None:
    assert check(encoder(seed), seed) >= 8


class Spoiled(Move):
    """A move that gets one weight a little wrong."""

    weight = ""

    def graph(self) -> Graph:
        graph = super().graph()
        graph.assign(graph[self.weight], np.asarray(graph[self.weight].data) * (1 + 1e-6))
        return graph


@pytest.mark.parametrize("action", ACTIONS)
def test_node_by_node_says_what_all_at_once_says(action: Action) -> None:
    """Of every site, and of every weight that is wrong."""
    graph, rng = encoder(3), np.random.default_rng(3)
    feed = random_feed(graph, rng)
    known, sites, seen = Known(graph, feed), Sites(graph, action), 0
    for found in sites.free():
        assert max(known.apart(Move(sites, [found], rng))) <= EXACT
    for weight in graph.constants:
        move = Spoiled(sites, sites.free()[:1], rng)
        move.weight = weight.name
        wrong = max(apart(move, feed)) > EXACT
        assert (max(known.apart(move)) > EXACT) == wrong
        seen += wrong
    assert seen > 5


def two_layers(function: str, width: int = 6, **attributes: object) -> Builder:
    """A layer, a function and a layer, without a norm or a batch norm."""
    b = Builder((1, 5, 3), dtype="float64")
    hidden = b.op(function, b.op("MatMul", b.x, b.normal(3, width, scale=1.0)), **attributes)
    b.done(b.op("MatMul", hidden, b.normal(width, 2)))
    return b


def site(graph: Graph, action: Action, name: str) -> tuple[Sites, Site]:
    """The site that holds a value, given as ``name.axis``."""
    sites = Sites(graph, action)
    return sites, next(s for s in sites.groups if any(str(p) == name for p in s.places))


def refused(graph: Graph, action: Action, name: str) -> str:
    """Why the site of a value cannot be acted on; the action says the same."""
    sites, found = site(graph, action, name)
    with pytest.raises(PassError, match=r"channels of .* cannot be ") as error:
        Move(sites, [found], np.random.default_rng(0)).graph()
    assert str(error.value).endswith(found.why)
    return found.why


def changed(before: Graph, edits: dict[str, np.ndarray]) -> float:
    """How far the output moves when constants are given other data by hand."""
    after = before.copy()
    for name, data in edits.items():
        after.assign(after[name], data)
    feed = random_feed(before, np.random.default_rng(7))
    (a,), (b,) = (evaluate(g, feed).values() for g in (before, after))
    return relative(a, b)


@pytest.mark.parametrize(
    ("function", "commutes"),
    [("Relu", True), ("LeakyRelu", True), ("Abs", True), ("Neg", True), ("Gelu", False)]
    + [(name, False) for name in ("Silu", "Sigmoid", "Tanh", "Exp", "HardSwish", "Softplus")],
)
def test_what_scaling_goes_through(function: str, commutes: bool) -> None:
    graph = two_layers(function).graph
    factor = np.exp2(np.random.default_rng(1).uniform(-2, 2, 6))
    first, second = (np.asarray(v.data) for v in graph.constants)
    error = changed(graph, {"w": first * factor, "w.1": second / factor[:, None]})
    if commutes:
        assert error <= EXACT
        assert len(Sites(graph, Action.SCALE).free()) == 1
    else:
        assert error > 0.05
        assert refused(graph, Action.SCALE, "w.1") == f"op {function}"


@pytest.mark.parametrize(("bounds", "commutes"), [((0.0, None), True), ((0.0, 6.0), False)])
def test_a_finite_bound_stops_scaling(bounds: tuple[float, float | None], commutes: bool) -> None:
    graph = two_layers("Clip", min=bounds[0], max=bounds[1]).graph
    if commutes:
        assert len(Sites(graph, Action.SCALE).free()) == 1
    else:
        assert refused(graph, Action.SCALE, "w.1") == "op Clip"


@pytest.mark.parametrize("shared", [False, True])
def test_a_bottleneck_takes_shifts_in_biases_that_it_is_given(shared: bool) -> None:
    """As between MambaQuant's projections to dt: two products become layers with a bias."""
    b = Builder((1, 5, 3), dtype="float64")
    narrow = b.op("MatMul", b.x, b.normal(3, 4))
    graph = b.done(b.op("MatMul", narrow, b.normal(4, 6)), *([narrow] if shared else []))
    if shared:
        assert refused(graph, Action.SHIFT, f"{narrow.name}.2") == "graph output"
        return
    sites, found = site(graph, Action.SHIFT, f"{narrow.name}.2")
    move = Move(sites, [found], b.rng)
    moved = move.graph()
    assert [n.op.name for n in moved.nodes] == ["Gemm", "Gemm"]
    assert [n.output.name for n in moved.nodes] == [n.output.name for n in graph.nodes]
    assert apart(move, random_feed(graph, b.rng))[1] <= EXACT
    feed = random_feed(graph, b.rng)
    before, after = (evaluate(g, feed, [narrow.name])[narrow.name] for g in (graph, moved))
    assert relative(move.of(narrow.name, before), after) <= EXACT
    assert relative(before, after) > 0.05


@pytest.mark.parametrize("padded", [False, True])
def test_zero_padding_stops_a_shift(padded: bool) -> None:
    b = Builder((1, 3, 6, 6), dtype="float64")
    x = b.conv(b.x, 4)
    w, bias = b.normal(5, 4, 3, 3), b.normal(5)
    graph = b.done(b.op("Conv", x, w, bias, pads=(int(padded),) * 4))
    amount = np.random.default_rng(1).normal(0, 1, 4)
    made, taken = np.asarray(graph["w.1"].data), np.asarray(graph["w.3"].data)
    effect = np.asarray(graph["w.2"].data).sum((2, 3)) @ amount
    error = changed(graph, {"w.1": made + amount, "w.3": taken - effect})
    if padded:
        assert error > 0.05
        assert refused(graph, Action.SHIFT, "w.1.0") == "zero padding"
    else:
        assert error <= EXACT
        sites, found = site(graph, Action.SHIFT, "w.1.0")
        assert found.why == ""
        assert len(found) == 4
        assert apart(Move(sites, [found], b.rng), random_feed(graph, b.rng))[1] <= EXACT


def normed(norm: str, *weights: np.ndarray) -> Graph:
    b = Builder((1, 5, 3), dtype="float64")
    x = b.op("MatMul", b.x, b.normal(3, 6, scale=1.0))
    y = b.op(norm, x, *(b.const(w, "g") for w in weights))
    return b.done(b.op("MatMul", y, b.normal(6, 2)))


@pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization"])
def test_a_norm_with_a_weight_stops_a_rotation(norm: str) -> None:
    rng = np.random.default_rng(1)
    graph = normed(norm, rng.uniform(0.5, 2, 6))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    before, behind = np.asarray(graph["w"].data), np.asarray(graph["w.1"].data)
    assert changed(graph, {"w": before @ turn.T, "w.1": turn @ behind}) > 0.05
    why = {
        "LayerNormalization": "LayerNormalization statistic",
        "RMSNormalization": "RMSNormalization weight is not folded",
    }
    assert refused(graph, Action.ROTATE, "w.1") == why[norm]


def test_a_norm_takes_a_rotation_once_its_weight_is_folded() -> None:
    rng = np.random.default_rng(2)
    graph = normed("RMSNormalization", rng.uniform(0.5, 2, 6))
    sites, behind = site(graph, Action.SCALE, "g.0")
    factor = np.ones(sites.count)
    factor[behind.channels] = 1 / np.asarray(graph["g"].data)
    folded = scale(sites, factor)
    np.testing.assert_allclose(np.asarray(folded["g"].data), 1, rtol=1e-15)
    sites, whole = site(folded, Action.ROTATE, "w.1")
    assert whole.why == ""
    turned = rotate(sites, [(whole, np.linalg.qr(rng.standard_normal((6, 6)))[0])])
    feed = random_feed(graph, rng)
    (a,), (b,) = (evaluate(g, feed).values() for g in (graph, turned))
    assert relative(a, b) <= EXACT
    assert relative(np.asarray(graph["w"].data), np.asarray(turned["w"].data)) > 0.1


def test_only_what_is_behind_a_norm_can_be_scaled_or_shifted() -> None:
    graph = normed("LayerNormalization", np.ones(6), np.zeros(6))
    for action in (Action.SCALE, Action.SHIFT):
        assert site(graph, action, "g.1.0")[1].why == ""
        assert refused(graph, action, "matmul.2") == "LayerNormalization statistic"


def test_keys_take_what_queries_give() -> None:
    """The factors of one are those of the other, turned around; softmax stops everything else."""
    b = Builder((1, 5, 3), dtype="float64")
    q, k = (b.op("MatMul", b.x, b.normal(3, 4)) for _ in range(2))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1)))
    graph = b.done(b.op("Softmax", scores))
    _, found = site(graph, Action.SCALE, "w.1")
    assert {str(p): p.power for p in found.weights} == {"w.1": 1, "w.1.1": -1}
    assert len(Sites(graph, Action.SCALE).free()) == 1


def test_a_tied_weight_is_wanted_with_two_powers() -> None:
    b = Builder((1, 5, 3), dtype="float64")
    w = b.normal(3, 4)
    q, k = (b.op("MatMul", b.x, w) for _ in range(2))
    graph = b.done(b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1))))
    assert refused(graph, Action.SCALE, "w.1") == "wanted with two powers"


def test_a_gate_is_held_fast_and_its_other_side_is_free() -> None:
    b = Builder((1, 5, 3), dtype="float64")
    gate = b.op("Silu", b.op("MatMul", b.x, b.normal(3, 6)))
    y = b.op("Mul", gate, b.op("MatMul", b.x, b.normal(3, 6)))
    graph = b.done(b.op("MatMul", y, b.normal(6, 2)))
    assert site(graph, Action.SCALE, "w.1.1")[1].why == ""
    assert refused(graph, Action.SCALE, "w.1") == "op Silu"


def test_a_depthwise_convolution_separates_its_input_from_its_output() -> None:
    b = Builder((1, 3, 6, 6), dtype="float64")
    first = b.op("Relu", b.conv(b.x, 8))
    graph = b.done(b.conv(b.op("Relu", b.conv(first, 16, group=8)), 4))
    assert sorted(len(s) for s in Sites(graph, Action.SCALE).free()) == [8, 16]
    _, found = site(graph, Action.SCALE, "w.0")
    assert {str(p): p.power for p in found.weights} == {"w.0": 1, "w.1.0": 1, "w.2.0x1": -1}


def test_a_grouped_convolution_takes_any_factors() -> None:
    b = Builder((1, 3, 6, 6), dtype="float64")
    x = b.conv(b.op("Relu", b.conv(b.x, 12)), 6, group=3)
    graph = b.done(b.conv(b.op("Relu", x), 2))
    assert sorted(len(s) for s in Sites(graph, Action.SCALE).free()) == [6, 12]


def test_a_grouped_convolution_with_tied_weights_takes_none() -> None:
    b = Builder((1, 4, 6, 6), dtype="float64")
    w = b.normal(4, 2, 3, 3)
    x = b.op("Relu", b.op("Conv", b.x, w, group=2, pads=(1, 1, 1, 1)))
    graph = b.done(b.conv(b.op("Relu", b.op("Conv", x, w, group=2)), 2))
    assert not Sites(graph, Action.SCALE).free()
    assert refused(graph, Action.SCALE, "relu.1") == "op Conv"


@pytest.mark.parametrize("read_inside", [False, True])
def test_a_shuffle_moves_single_channels(read_inside: bool) -> None:
    b = Builder((1, 3, 4, 4), dtype="float64")
    x = b.op("Reshape", b.op("Relu", b.conv(b.x, 6)), shape=(1, 2, 3, 4, 4))
    y = b.op("Transpose", x, perm=(0, 2, 1, 3, 4))
    z = b.op("Reshape", y, shape=(1, 6, 4, 4))
    outputs = [b.op("GlobalAveragePool", b.op("Sigmoid", y))] if read_inside else []
    graph = b.done(b.conv(z, 2), *outputs)
    sizes = [len(s) for s in Sites(graph, Action.SCALE).free()]
    assert sizes == ([] if read_inside else [6])


def test_a_shuffle_that_ends_in_halves() -> None:
    """As ShuffleNetV2 does it: the even channels go one way, the odd ones another."""
    b = Builder((1, 3, 4, 4), dtype="float64")
    x = b.op("Reshape", b.op("Relu", b.conv(b.x, 6)), shape=(1, 3, 2, 4, 4))
    x = b.op("Transpose", x, perm=(0, 2, 1, 3, 4))
    number = (b.graph.constant(np.asarray(n), "n") for n in range(2))
    halves = [b.conv(b.op("Gather", x, n, axis=1), 2) for n in number]
    graph = b.done(b.op("Add", *halves))
    assert [len(s) for s in Sites(graph, Action.SCALE).free()] == [3, 3]
    check(graph, 0)


def test_a_weight_that_is_an_output_stays() -> None:
    b = Builder((1, 8, 6, 6), dtype="float64")
    w = b.normal(8, 1, 3, 3)
    x = b.op("Relu", b.op("Conv", b.conv(b.x, 8, 1), w, group=8))
    graph = b.done(b.conv(x, 2), w)
    assert [len(s) for s in Sites(graph, Action.SCALE).free()] == [8]
    check(graph, 0)


def test_a_constant_with_two_readers_absorbs_nothing() -> None:
    b = Builder((1, 5, 3), dtype="float64")
    c = b.const(b.rng.uniform(0.5, 2, 4), "c")
    x = b.op("Mul", b.op("MatMul", b.x, b.normal(3, 4)), c)
    graph = b.done(b.op("MatMul", b.op("Mul", b.op("Relu", x), c), b.normal(4, 2)))
    assert [len(s) for s in Sites(graph, Action.SCALE).free()] == [4]
    check(graph, 0)


@pytest.mark.parametrize("biased", [False, True])
def test_a_bias_without_the_axis_stops_factors_and_rotations(biased: bool) -> None:
    b = Builder((1, 5, 3), dtype="float64")
    x = b.op("MatMul", b.normal(4, 5), b.x)
    x = b.op("Add", x, b.normal(3)) if biased else x
    graph = b.done(b.op("MatMul", b.normal(2, 4), x))
    for action in (Action.SCALE, Action.ROTATE):
        if biased:
            assert refused(graph, action, "w.0") == "an operand without the axis is added"
        else:
            assert site(graph, action, "w.0")[1].why == ""
    check(graph, 0)


def test_layers_without_a_bias_get_one() -> None:
    b = Builder((1, 3, 6, 6), dtype="float64")
    x = b.op("Conv", b.x, b.normal(4, 3, 1, 1))
    x = b.op("Flatten", b.op("Conv", x, b.normal(2, 4, 3, 3)))
    y = b.op("MatMul", b.op("Gemm", x, b.normal(32, 6)), b.normal(6, 2))
    graph = b.done(b.op("Relu", y))
    sites = Sites(graph, Action.SHIFT)
    assert sorted(len(s) for s in sites.free()) == [2, 4, 6]
    move = Move(sites, sites.free(), b.rng)
    assert apart(move, random_feed(graph, b.rng))[0] <= EXACT
    assert [n.op.name for n in move.graph().nodes][-2:] == ["Gemm", "Relu"]
    assert all(len(n.operands) == 3 for n in move.graph().nodes if n.op.name == "Conv")


def test_wrong_numbers_are_refused() -> None:
    graph = two_layers("Identity").graph
    sites, found = site(graph, Action.SCALE, "w.1")
    factor = np.ones(sites.count)
    factor[found.channels[0]] = 0
    with pytest.raises(PassError, match="finite factors other than zero"):
        scale(sites, factor)
    amount = np.full(Sites(graph, Action.SHIFT).count, np.inf)
    with pytest.raises(PassError, match="finite amounts"):
        shift(Sites(graph, Action.SHIFT), amount)
    sites, found = site(graph, Action.ROTATE, "w.1")
    with pytest.raises(PassError, match="is not orthogonal"):
        rotate(sites, [(found, np.ones((6, 6)))])
    with pytest.raises(PassError, match=r"the 6 channels of w\.1 cannot turn by \(5, 5\)"):
        rotate(sites, [(found, np.eye(5))])


@pytest.mark.parametrize("op", ["Identity", "Neg"])
def test_linear_ops_let_negative_factors_through(op: str) -> None:
    graph = two_layers(op).graph
    sites, found = site(graph, Action.SCALE, "w.1")
    factor = np.ones(sites.count)
    factor[found.channels] = np.linspace(-3, 3, len(found))
    feed = random_feed(graph, np.random.default_rng(0))
    before, after = evaluate(graph, feed), evaluate(scale(sites, factor), feed)
    assert all(relative(a, after[k]) <= EXACT for k, a in before.items())


def test_others_do_not_and_would_be_wrong() -> None:
    graph = two_layers("Relu").graph
    sites, found = site(graph, Action.SCALE, "w.1")
    factor = np.ones(sites.count)
    factor[found.channels[0]] = -1
    with pytest.raises(PassError, match=r"negative factor: Relu '.*' lets positive factors"):
        scale(sites, factor)
    turned = sites.spread((factor < 0).astype(float))
    same = np.zeros_like(turned)
    wrong = rewritten(graph, lambda value, data: scaled(sites, value, data, same, turned))
    feed = random_feed(graph, np.random.default_rng(0))
    before, after = evaluate(graph, feed), evaluate(wrong, feed)
    assert max(relative(a, after[k]) for k, a in before.items()) > 0.01


def test_a_weight_that_would_overflow_is_refused() -> None:
    b = Builder((1, 5, 3), dtype="float16")
    x = b.op("MatMul", b.x, b.const(np.full((3, 4), 6e4), "w"))
    graph = b.done(b.op("MatMul", x, b.normal(4, 2)))
    sites, found = site(graph, Action.SCALE, "w.1")
    factor = np.ones(sites.count)
    factor[found.channels] = 4
    with pytest.raises(PassError, match="leaves the range of float16"):
        scale(sites, factor)


def test_powers_of_two_change_no_bit() -> None:
    graph = Maps(11).grow(9)
    sites, rng = Sites(graph, Action.SCALE), np.random.default_rng(0)
    move, feed = Move(sites, sites.free(), rng, octaves=True), random_feed(graph, rng)
    assert sites.free()
    (a,), (b,) = (evaluate(g, feed).values() for g in (graph, move.graph()))
    np.testing.assert_array_equal(a, b)


def test_the_analysed_graph_is_untouched() -> None:
    graph = encoder(3)
    before = str(graph)
    for action in ACTIONS:
        sites = Sites(graph, action)
        Move(sites, sites.free(), np.random.default_rng(0)).graph()
    assert str(graph) == before
