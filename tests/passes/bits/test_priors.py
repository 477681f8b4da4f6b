"""Importance of layers: by what their blocks change, and by how their weights are spread."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.passes import Context
from qc.passes.bits.priors import block, guessed
from qc.passes.bits.sites import WEIGHTS, Site


def residual(loud: float = 1.0) -> Builder:
    """A stem, a block of two layers whose result is added to what it reads, and an end."""
    b = Builder((1, 4, 6, 6), seed=4)
    x = b.conv(b.x, 8)
    y = b.op("Relu", b.op("Conv", x, b.normal(16, 8, 3, 3, scale=0.1), pads=(1, 1, 1, 1)))
    y = b.op("Conv", y, b.normal(8, 16, 1, 1, scale=0.1 * loud))
    b.done(b.conv(b.op("Add", x, y), 3, 1))
    return b


def sites(b: Builder) -> list[Site]:
    found = [(i, n) for i, n in enumerate(b.graph.nodes) if n.op.name == "Conv"]
    return [Site(WEIGHTS, (n.name,), n.operands[1].type.size, i) for i, n in found]


def importance(
    b: Builder, prior: str, feeds: list[dict[str, np.ndarray]] | None = None
) -> list[float]:
    context = Context(calibration=feeds or b.feeds(4))
    found = guessed(prior, b.graph, context, sites(b), [2, 3, 5], 4)
    for own in found:
        np.testing.assert_allclose(own[:-1] / own[1:], [4.0, 16.0])
    return [float(16 * own[0]) for own in found]


def test_a_block_ends_in_the_sum_behind_it() -> None:
    b = residual()
    stem, first, second, end = (block(b.graph, s.index) for s in sites(b))
    total = next(n for n in b.graph.nodes if n.op.name == "Add")
    assert first == second == (total.operands[0], total.output)
    assert stem is None
    assert end is None


def test_a_block_that_changes_more_counts_more() -> None:
    quiet, loud = (importance(residual(x), "lim") for x in (0.01, 1.0))
    assert quiet[1] == quiet[2] < 0.01 < loud[1] == loud[2] < 2
    assert quiet[0] == quiet[3] == quiet[1], "layers without a block count as the greatest"


def test_what_lim_says_is_a_cosine() -> None:
    b = residual()
    total = next(n for n in b.graph.nodes if n.op.name == "Add")
    x, y = total.operands[0].name, total.output.name
    run = Context().open(b.graph, [x, y])
    feeds = b.feeds(4)
    pairs = [run(feed) for feed in feeds]
    a, c = (np.concatenate([p[n].ravel() for p in pairs]).astype(float) for n in (x, y))
    want = 1 - a @ c / (np.linalg.norm(a) * np.linalg.norm(c))
    assert importance(b, "lim", feeds)[1] == pytest.approx(want)


def test_fewer_weights_far_out_are_more_important() -> None:
    b = residual()
    spread = b.graph.nodes[sites(b)[1].index].operands[1]
    few = np.zeros(spread.shape, np.float32)
    few.flat[:5] = 1.0
    before = importance(b, "zscore")[1]
    b.graph.assign(spread, few)
    assert importance(b, "zscore")[1] == pytest.approx(few.size / 5)
    assert before < few.size / 5


def test_equal_weights_are_as_important_as_can_be() -> None:
    b = residual()
    weight = b.graph.nodes[sites(b)[0].index].operands[1]
    b.graph.assign(weight, np.ones(weight.shape, np.float32))
    assert importance(b, "zscore")[0] == pytest.approx(weight.type.size)
