"""Deleting coupled channels equals zeroing them: random graphs, single rules, mistakes seen."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, residual_net
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo_networks import random_feed

from qc.ir.actions import delete, mask, permute
from qc.ir.coupling import Coupling
from qc.ir.errors import PassError
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph

from .masking import difference, some
from .random_float_networks import Maps, attention, transformer

TOLERANCE = 1e-5
EXACT = 1e-9
"""For networks in float64."""


def check(graph: Graph, seed: int) -> int:
    rng = np.random.default_rng(seed)
    coupling = Coupling(graph)
    groups = coupling.deletable()
    feed = random_feed(graph, rng)
    for fraction in (0.25, 0.6):
        assert difference(coupling, some(coupling, groups, fraction, rng), feed) <= EXACT
    return len(groups)


@settings(max_examples=350)
@given(st.integers(0, 10**9))
def test_random_maps(seed: int) -> None:
    check(Maps(seed).grow(1 + seed % 12), seed)


@settings(max_examples=150)
@given(st.integers(0, 10**9))
def test_random_transformers(seed: int) -> None:
    assert check(transformer(seed), seed) >= 3


@settings(max_examples=60)
@given(st.integers(0, 10**9))
def test_permuted_channels_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = transformer(seed) if seed % 3 == 0 else Maps(seed).grow(1 + seed % 10)
    coupling = Coupling(graph)
    source = np.arange(coupling.count)
    for group in coupling.permutable():
        source[group.channels] = rng.permutation(group.channels)
    feed = random_feed(graph, rng)
    (before,), (after,) = (evaluate(g, feed).values() for g in (graph, permute(coupling, source)))
    assert np.abs(before - after).max() <= EXACT * np.abs(before).max()


def test_the_groups_of_a_residual_network() -> None:
    coupling = Coupling(residual_net().graph)
    sizes = sorted(len(g) for g in coupling.deletable())
    assert sizes == [16, 16, 32], "the inside of the block, the stream (with the concat), the last"
    pinned = {g.pinned for g in coupling.groups if g.weights and g.pinned}
    assert pinned == {"graph input", "spatial position", "Softmax statistic"}


def test_only_the_selected_channel_is_pinned() -> None:
    b = Builder((1, 3, 4, 4))
    x = b.conv(b.x, 8)
    one = b.op("Slice", x, starts=(5,), ends=(6,), axes=(1,))
    b.done(b.op("Add", b.conv(x, 4), one))
    coupling = Coupling(b.graph)
    free = next(g for g in coupling.deletable() if len(g) == 7)
    gone = np.zeros(coupling.count, bool)
    gone[free.channels[:6]] = True
    feed = random_feed(b.graph, np.random.default_rng(0))
    assert difference(coupling, gone, feed) <= TOLERANCE


def test_heads_and_their_channels_are_groups_of_their_own() -> None:
    """Three key heads, each read by two query heads, of four channels."""
    b = Builder((1, 5, 3))
    x = b.op("MatMul", b.x, b.normal(3, 10))
    b.done(b.op("MatMul", attention(b, x, 3, 2, 4, 10), b.normal(10, 2)))
    sizes = sorted(len(g) for g in Coupling(b.graph).deletable())
    assert sizes == [2, 3, 4, 4, 10, 10], "repeats, heads, q-k and v channels, both streams"


def test_a_mean_without_its_old_divisor_is_noticed() -> None:
    b = Builder((1, 5, 3))
    x = b.op("MatMul", b.x, b.normal(3, 8))
    mean = b.op("ReduceMean", x, axes=(-1,), keepdims=True)
    b.done(b.op("MatMul", b.op("Mul", x, mean), b.normal(8, 2)))
    coupling, rng = Coupling(b.graph), np.random.default_rng(0)
    gone, feed = some(coupling, coupling.deletable(), 0.5, rng), random_feed(b.graph, rng)
    assert difference(coupling, gone, feed) <= TOLERANCE
    wrong = delete(coupling, gone)
    ratio = next(v for v in wrong.constants if "ratio" in v.name)
    wrong.assign(ratio, np.ones((), np.float32))
    assert difference(coupling, gone, feed, wrong) > 0.1


def test_masking_has_an_effect() -> None:
    graph = residual_net().graph
    coupling, rng = Coupling(graph), np.random.default_rng(0)
    gone, feed = some(coupling, coupling.deletable(), 0.5, rng), random_feed(graph, rng)
    (before,), (after,) = (evaluate(g, feed).values() for g in (graph, mask(coupling, gone)))
    assert np.abs(before - after).max() > 1e-3


def test_pinned_channels_and_whole_groups_are_refused() -> None:
    coupling = Coupling(residual_net().graph)
    image = next(g for g in coupling.groups if g.pinned == "graph input" and g.weights)
    gone = np.zeros(coupling.count, bool)
    gone[image.channels[0]] = True
    with pytest.raises(PassError, match=r"channels of w\.1 cannot be deleted: graph input"):
        delete(coupling, gone)
    gone[:] = False
    gone[coupling.deletable()[0].channels] = True
    with pytest.raises(PassError, match="would lose all its 16 channels"):
        delete(coupling, gone)


def test_the_input_graph_is_untouched() -> None:
    graph = residual_net().graph
    before = str(graph)
    coupling = Coupling(graph)
    gone = some(coupling, coupling.deletable(), 0.5, np.random.default_rng(0))
    delete(coupling, gone)
    mask(coupling, gone)
    assert str(graph) == before


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("op", ["SpaceToDepth", "DepthToSpace"])
def test_blocks_of_pixels_in_both_orders(op: str, mode: str) -> None:
    b = Builder((1, 3, 4, 4), dtype="float64")
    y = b.op(op, b.conv(b.x, 8), blocksize=2, mode=mode)
    graph = b.done(b.conv(b.op("Relu", y), 2))
    assert check(graph, 0) >= 1
