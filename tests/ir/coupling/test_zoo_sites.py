"""Where real networks can be scaled, shifted and rotated, and that they say the same afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_networks import SIDES, ZOO, doubled, network, random_feed

from qc.ir.actions import rotate, scale
from qc.ir.coupling import Action, Sites
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph
from qc.ir.ops import RMSNormalization

from .moving import ACTIONS, Known, Move, apart, relative

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")

Found = tuple[int, int]

EXPECTED: dict[str, tuple[Found, Found, Found]] = {
    "FastestDet": ((109, 4002), (19, 1032), (0, 0)),
    "SqueezeNet_fp16": ((25, 2944), (0, 0), (0, 0)),
    "face_rfb320": ((79, 6026), (39, 2516), (0, 0)),
    "kws_dscnn_fp32": ((9, 576), (0, 0), (0, 0)),
    "mamba_shakespeare_outliers_all": ((13, 1026), (3, 18), (3, 18)),
    "mamba_shakespeare_plain": ((13, 1026), (3, 18), (3, 18)),
    "mnist_cntk": ((2, 24), (0, 0), (0, 0)),
    "mobilenet_v1_0.5_160_quant_deq": ((0, 0), (0, 0), (0, 0)),
    "mobilenet_v2_1.0_224_quant_deq": ((7, 712), (7, 712), (7, 712)),
    "resnet20_cifar10": ((12, 400), (0, 0), (0, 0)),
    "resnet8_fp32": ((6, 224), (2, 96), (0, 0)),
    "squeezenet1.0_imagenet_fp32": ((25, 2944), (0, 0), (0, 0)),
    "stories260k_T128": ((46, 1704), (0, 0), (5, 40)),
    "vit_cifar10": ((13, 1664), (14, 1792), (6, 192)),
    "vit_cifar10_outliers": ((13, 1664), (14, 1792), (6, 192)),
    "vww96_fp32": ((27, 2736), (0, 0), (0, 0)),
}
"""Sites and channels in them: scaled, shifted, rotated."""

WHY = {
    "face_rfb320": {"op Exp", "op Softmax", "graph output"},
    "mamba_shakespeare_plain": {"RMSNormalization statistic", "op Silu", "op SelectiveScan"},
    "mobilenet_v1_0.5_160_quant_deq": {"op Clip", "Softmax statistic"},
    "mobilenet_v2_1.0_224_quant_deq": {"op Clip", "Softmax statistic"},
    "stories260k_T128": {"RMSNormalization statistic", "op Softmax", "op Silu"},
    "vit_cifar10": {"LayerNormalization statistic", "wanted with two powers", "op Gelu"},
}
"""Some of the reasons why other channels cannot be scaled."""

BARS = {Action.SCALE: 1e-5, Action.SHIFT: 1e-4, Action.ROTATE: 1e-4}
"""For every output in float32."""

EXACT = 1e-9
"""For every tensor in float64."""


@pytest.mark.parametrize("name", EXPECTED)
def test_sites(name: str) -> None:
    graph, rng = network(name), np.random.default_rng(1)
    feed = random_feed(graph, rng)
    for action, expected in zip(ACTIONS, EXPECTED[name], strict=True):
        sites = Sites(graph, action)
        free = sites.free()
        assert (len(free), sum(map(len, free))) == expected, action
        if free:
            assert apart(Move(sites, free, rng), feed)[0] <= BARS[action], action


@pytest.mark.parametrize("name", WHY)
def test_why_not(name: str) -> None:
    sites = Sites(network(name), Action.SCALE)
    assert {s.why for s in sites.groups if len(s) > 1 and s.weights} >= WHY[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, found in EXPECTED.items() if any(map(any, found))])
def test_every_site_alone(name: str) -> None:
    """And all of them at once."""
    graph = doubled(network(name), SIDES.get(name, 0))
    rng = np.random.default_rng(2)
    feed = random_feed(graph, rng)
    known = Known(graph, feed)
    for action in ACTIONS:
        sites = Sites(graph, action)
        assert max(apart(Move(sites, sites.free(), rng), feed)) <= EXACT
        for site in sites.free():
            outputs, tensors = known.apart(Move(sites, [site], rng))
            assert outputs <= EXACT, site.name
            assert tensors <= EXACT, site.name


def folded(graph: Graph) -> Graph:
    """The weights of RMS norms moved into the layers behind them."""
    sites = Sites(graph, Action.SCALE)
    factor = np.ones(sites.count)
    for node in graph.nodes:
        if isinstance(node.op, RMSNormalization):
            gamma = node.operands[1]
            (channels,) = sites.channels(gamma, 0)
            factor[channels] = 1 / np.asarray(gamma.data)
    return scale(sites, factor)


@pytest.mark.parametrize("name", ["stories260k_T128", "mamba_shakespeare_plain"])
def test_the_residual_stream_turns_once_norms_are_folded(name: str) -> None:
    """As QuaRot and MambaQuant rotate it."""
    graph, rng = doubled(network(name)), np.random.default_rng(3)
    feed = random_feed(graph, rng)
    sites = Sites(folded(graph), Action.ROTATE)
    stream = max(sites.free(), key=len)
    assert len(stream) == {"stories260k_T128": 64, "mamba_shakespeare_plain": 96}[name]
    turned = rotate(sites, [(stream, np.linalg.qr(rng.standard_normal((len(stream),) * 2))[0])])
    before, after = evaluate(graph, feed), evaluate(turned, feed)
    assert all(relative(a, after[k]) <= EXACT for k, a in before.items())
