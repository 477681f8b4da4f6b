"""Channels of heads scaled head by head: exact where it is allowed, wrong where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, network, random_feed

from qc.ir.actions import scale
from qc.ir.coupling import Action, Heads, Sites, heads
from qc.ir.errors import PassError
from qc.ir.graph import Graph

from .moving import Move, apart
from .random_float_networks import encoder, transformer

HEADS, CHANNELS, REPEATED = 3, 4, 2


def attention(shared: bool = False, repeated: int = REPEATED) -> Graph:
    """Values of heads that queries repeat, and the projection; ``shared``: one vector for all."""
    b = Builder((1, 5, 6), dtype="float64")
    weights = b.op("Softmax", b.op("MatMul", b.x, b.op("Transpose", b.x, perm=(0, 2, 1))))
    flat = b.op("MatMul", b.x, b.normal(6, HEADS * CHANNELS))
    values = b.op("Reshape", flat, shape=(1, 5, HEADS, 1, CHANNELS))
    wide = b.op("Expand", values, shape=(1, 5, HEADS, repeated, CHANNELS))
    wide = b.op("Reshape", wide, shape=(1, 5, HEADS * repeated, CHANNELS))
    seen = b.op("MatMul", weights, b.op("Transpose", wide, perm=(0, 2, 1, 3)))
    if shared:
        seen = b.op("Mul", seen, b.normal(CHANNELS))
    back = b.op("Transpose", seen, perm=(0, 2, 1, 3))
    joined = b.op("Reshape", back, shape=(1, 5, HEADS * repeated * CHANNELS))
    return b.done(b.op("MatMul", joined, b.normal(HEADS * repeated * CHANNELS, 2)))


def found(graph: Graph) -> tuple[Sites, list[Heads]]:
    sites = Sites(graph, Action.SCALE)
    return sites, list(heads(sites))


@pytest.mark.parametrize("repeated", [1, 2])
def test_every_channel_of_every_head_takes_a_factor(repeated: int) -> None:
    graph = attention(repeated=repeated)
    sites, (one,) = found(graph)
    assert one.shape == (HEADS, CHANNELS)
    rng = np.random.default_rng(0)
    move = Move(sites, [one.blocks, one.channels], rng)
    (drawn,) = move.within
    assert np.linalg.matrix_rank(np.log2(drawn[1])) > 2  # no factor per head times one per channel
    assert max(apart(move, random_feed(graph, rng))) <= 1e-9


def test_repeated_heads_share_their_factors() -> None:
    graph = attention()
    sites, (one,) = found(graph)
    made, read = (n for n in graph.nodes if n.op.name == "MatMul" and n.operands[1].is_constant)
    np.testing.assert_array_equal(one.along(sites, made.output, 2), np.arange(12))
    pairs = one.along(sites, read.operands[0], 2)
    assert pairs is not None
    grid = pairs.reshape(HEADS, REPEATED, CHANNELS)
    np.testing.assert_array_equal(grid, np.arange(12).reshape(3, 1, 4) + np.zeros((3, 2, 4)))
    assert one.along(sites, read.output, 2) is None


def test_what_all_heads_share_forbids_it_for_the_error_it_would_make() -> None:
    graph = attention(shared=True)
    sites = Sites(graph, Action.SCALE)
    made, read = (n for n in graph.nodes if n.op.name == "MatMul" and n.operands[1].is_constant)
    assert not any(one.along(sites, read.operands[0], 2) is not None for one in heads(sites))
    blocks, behind, before = (
        next(s for s in sites.groups if any(str(p) == name for p in s.places))
        for name in (f"{made.output.name}.2/0", f"{read.operands[0].name}.2/1", "w.1/1")
    )
    factor = np.exp2(np.random.default_rng(1).uniform(-2, 2, (HEADS, CHANNELS)))
    with pytest.raises(PassError, match="cannot be scaled in one block alone"):
        scale(sites, np.ones(sites.count), [(Heads(blocks, before), factor)])
    with pytest.raises(PassError, match="cannot be scaled in one block alone"):
        scale(sites, np.ones(sites.count), [(Heads(blocks, behind), factor)])


def test_factors_must_be_positive_and_as_many_as_there_are_channels() -> None:
    sites, (one,) = found(attention())
    for bad in (np.ones((CHANNELS, HEADS)), np.full(one.shape, -1.0), np.full(one.shape, np.nan)):
        with pytest.raises(PassError, match="positive finite factors"):
            scale(sites, np.ones(sites.count), [(one, bad)])


@pytest.mark.parametrize("make", [transformer, encoder])
def test_random_transformers_have_heads(make: Callable[[int], Graph]) -> None:
    """Which `test_sites` scales along with all other sites."""
    assert sum(len(found(make(seed))[1]) for seed in range(12)) >= 6


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize(("name", "count"), [("stories260k_T128", 5), ("vit_cifar10", 0)])
def test_real_networks(name: str, count: int) -> None:
    """Stories: the values of every layer; the ViT packs queries, keys and values in one weight."""
    graph = network(name)
    sites, some = found(graph)
    assert [one.shape for one in some] == [(4, 8)] * count
    rng = np.random.default_rng(2)
    feed = random_feed(graph, rng)
    for one in some:
        assert apart(Move(sites, [one.blocks, one.channels], rng), feed)[0] <= 1e-5
