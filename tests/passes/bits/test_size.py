"""Bits within a budget of bytes: as trying everything says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from graphs import Builder

from qc.ir.errors import PreconditionError
from qc.passes import Context, PassManager
from qc.passes.bits.sites import WEIGHTS, Site, sites_of
from qc.passes.bits.size import ByteBudget
from qc.passes.plan import plan
from qc.passes.quantize import QuantizeStatic
from qc.passes.recipe import load_recipe

BITS = [2, 4, 8]


def calibrated() -> tuple[Builder, Context, list[Site]]:
    """Seven layers, their sizes odd."""
    b = Builder((1, 3, 6, 6), seed=5)
    x = b.x
    for channels in (5, 7, 4, 9, 6, 5):
        x = b.op("Relu", b.conv(x, channels))
    b.done(b.conv(x, 3))
    context = Context(calibration=b.feeds(4))
    b.graph, _ = PassManager(load_recipe("w4a8").passes[:4]).run(b.graph, context)
    found = sites_of(b.graph, plan(b.graph, context.kept), context.kept)
    return b, context, [s for s in found if s.kind == WEIGHTS]


def test_as_good_as_trying_everything() -> None:
    b, context, sites = calibrated()
    assert len(sites) == 7
    rng, coder = np.random.default_rng(6), QuantizeStatic(weight_bits=4)
    losses = [rng.random() * 4.0 ** -np.array(BITS) for _ in sites]

    def within(budget: float) -> tuple[list[int], int]:
        return ByteBudget.of(budget, b.graph, context, coder, sites, BITS).met(losses)

    def loss(bits: list[int]) -> float:
        return float(sum(own[BITS.index(n)] for own, n in zip(losses, bits, strict=True)))

    most = within(1e9)[1]
    with pytest.raises(PreconditionError, match="the least are"):
        within(10.0)
    assert within(1e9)[0] == [8] * 7
    fixed = most - sum(s.size for s in sites)
    before = np.inf
    for budget in np.linspace(fixed + sum(-(-s.size * 2 // 8) for s in sites), most, 6):
        bits, taken = within(float(budget))
        assert taken <= budget
        choices = (
            list(c)
            for c in product(BITS, repeat=7)
            if fixed + sum(-(-s.size * n // 8) for s, n in zip(sites, c, strict=True)) <= budget
        )
        assert loss(bits) == pytest.approx(min(map(loss, choices)), rel=1e-9)
        assert loss(bits) <= before
        before = loss(bits)
