"""Sensitivity curves: what one site alone costs at the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.passes import Canonicalize, Context, FoldBatchNorm
from qc.passes.bits.curves import curves
from qc.passes.bits.sites import ACTIVATIONS, WEIGHTS, Site, sites_of, widths_of
from qc.passes.calibrate import Calibrate
from qc.passes.plan import plan
from qc.passes.quantize import affine

BITS = (2, 4, 6, 8)


def network(seed: int = 0) -> Builder:
    """Three layers with a residual sum, and a matrix product behind a pooling."""
    b = Builder((1, 4, 8, 8), seed=seed)
    x = b.op("Relu", b.conv(b.x, 8))
    y = b.op("Relu", b.op("Add", b.conv(x, 8), x))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", b.conv(y, 12))), axis=1)
    b.done(b.linear(pooled, 5))
    return b


def prepared(b: Builder, moments: bool = True) -> tuple[Graph, Context, list[Site]]:
    """A calibrated network and its sites."""
    context = Context(calibration=b.feeds(8))
    graph = b.graph.copy()
    for one in (Canonicalize(), FoldBatchNorm(), Calibrate(method="mse", moments=moments)):
        one.apply(graph, context)
    return graph, context, sites_of(graph, plan(graph), context.kept)


def test_sites_are_all_weights_and_what_has_a_width_to_choose() -> None:
    graph, _, sites = prepared(network())
    weights = [s.size for s in sites if s.kind == WEIGHTS]
    assert weights == [8 * 4 * 9, 8 * 8 * 9, 12 * 8 * 9, 12 * 5]
    assert not any("x" in s.members for s in sites)
    codes = {m for s in sites if s.kind == ACTIVATIONS for m in s.members}
    assert codes == {n for n, bits in plan(graph).bits.items() if bits == 8} - {"x"}
    assert [s.index for s in sites] == sorted(s.index for s in sites)


def test_more_bits_lose_less() -> None:
    graph, context, sites = prepared(network())
    for own in curves(graph, context, sites, BITS, 4):
        assert (own > 0).all()
        assert own[0] > 3 * own[1] > 9 * own[2] > 27 * own[3]


def test_a_curve_is_the_noise_of_its_site_alone() -> None:
    b = network()
    graph, context, sites = prepared(b, moments=False)
    at = next(i for i, s in enumerate(sites) if s.kind == ACTIVATIONS)
    found = curves(graph, context, sites, BITS, 4)
    name = sites[at].members[0]
    noise = np.zeros(len(BITS))
    power = 0.0
    (output,) = [v.name for v in graph.outputs]
    for feed in list(context.calibration)[:4]:
        real = evaluate(graph, feed, [name, output])
        power += float(np.square(real[output]).sum())
        for i, bits in enumerate(BITS):
            scale, zero = affine(*context.ranges[name].span(bits), bits)
            q = np.clip(np.rint(real[name] / np.float32(scale)) + zero, 0, 2**bits - 1)
            fed = {**feed, name: ((q - zero) * np.float32(scale)).astype(np.float32)}
            rest = behind(graph, name)
            moved = evaluate(rest, {v.name: fed[v.name] for v in rest.inputs})[output]
            noise[i] += float(np.square(moved - real[output]).sum())
    np.testing.assert_allclose(found[at], noise / power, rtol=1e-3)


def behind(graph: Graph, name: str) -> Graph:
    """What comes after a value."""
    from qc.ir.subgraph import subgraph

    return subgraph(graph, [v.name for v in graph.outputs], [name])


def test_the_moments_of_inputs_make_weights_lose_less() -> None:
    apart, together = (
        [
            own[1]
            for s, own in zip(sites, curves(graph, context, sites, BITS, 8), strict=True)
            if s.kind == WEIGHTS
        ]
        for graph, context, sites in (prepared(network(), moments=m) for m in (False, True))
    )
    assert sum(together) < 0.8 * sum(apart)


@pytest.mark.parametrize("kind", [WEIGHTS, ACTIVATIONS])
def test_widths_go_by_names(kind: str) -> None:
    sites = [Site(WEIGHTS, ("conv",), 9, 0), Site(ACTIVATIONS, ("a", "b"), 4, 1)]
    found = widths_of(sites, [3, 5])
    assert (found.weights, found.activations) == ({"conv": 3}, {"a": 5, "b": 5})
