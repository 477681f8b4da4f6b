"""Channels of heads ordered head by head: exact where it is allowed, wrong where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder
from zoo_networks import ZOO, doubled, network, random_feed

from qc.ir import Graph
from qc.ir.actions import blocks_of, permute_within
from qc.ir.coupling import ChannelGroup, Coupling
from qc.ir.errors import PassError
from qc.ir.evaluate import evaluate
from qc.ir.types import Array


def heads(shared: bool) -> Graph:
    """Keys and queries of 3 heads of 4 channels; ``shared``: all heads multiply by one vector."""
    b = Builder((5, 6))
    split = []
    for _ in range(2):
        flat = b.op("MatMul", b.x, b.normal(6, 12))
        grid = b.op("Reshape", flat, shape=(5, 3, 4))
        split.append(b.op("Transpose", grid, perm=(1, 0, 2)))
    query, key = split
    if shared:
        query = b.op("Mul", query, b.normal(4))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=(0, 2, 1)))
    return b.done(b.op("ReduceSum", scores, axes=(0,)))


def channels_of_heads(coupling: Coupling) -> ChannelGroup:
    return next(g for g in coupling.deletable() if len(g) == 4)


def shuffled(coupling: Coupling, group: ChannelGroup, blocks: ChannelGroup, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(len(group)) for _ in range(len(blocks))])
    return permute_within(coupling, group, blocks, orders)


def difference(before: dict[str, Array], after: dict[str, Array]) -> float:
    return max(float(np.abs(after[k] - v).max() / np.abs(v).max()) for k, v in before.items())


def test_heads_order_themselves() -> None:
    graph = heads(shared=False)
    coupling = Coupling(graph)
    group = channels_of_heads(coupling)
    blocks = blocks_of(coupling, group)
    assert blocks is not None
    assert len(blocks) == 3
    feed = {"x": np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)}
    moved = shuffled(coupling, group, blocks, 1)
    assert difference(evaluate(graph, feed), evaluate(moved, feed)) < 1e-6
    assert any(not np.array_equal(v.data, moved[v.name].data) for v in graph.constants)


def test_what_all_heads_share_forbids_it() -> None:
    coupling = Coupling(heads(shared=True))
    group = channels_of_heads(coupling)
    assert blocks_of(coupling, group) is None
    blocks = next(g for g in coupling.groups if len(g) == 3)
    with pytest.raises(PassError, match="cannot change places in one block alone"):
        shuffled(coupling, group, blocks, 1)


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")
@pytest.mark.parametrize(("name", "count"), [("vit_cifar10", 6), ("stories260k_T128", 10)])
def test_real_networks(name: str, count: int) -> None:
    """Stories: values and repetitions of queries by key head; not the pairs that RoPE turns."""
    graph = doubled(network(name))
    coupling = Coupling(graph)
    found = [(g, b) for g in coupling.permutable() if (b := blocks_of(coupling, g)) is not None]
    assert len(found) == count
    feed = random_feed(graph, np.random.default_rng(0))
    before = evaluate(graph, feed)
    for seed, (group, blocks) in enumerate(found):
        assert difference(before, evaluate(shuffled(coupling, group, blocks, seed), feed)) < 1e-9
