"""The groups of real networks: as many as they should be, and every one of them exact."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_networks import SIDES, ZOO, doubled, network, random_feed

from qc.ir.actions import permute
from qc.ir.coupling import Coupling
from qc.ir.evaluate import evaluate

from .masking import difference, some

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")

EXPECTED = {
    "FastestDet": (34, 1413),
    "SqueezeNet_fp16": (25, 2944),
    "face_rfb320": (25, 1716),
    "kws_dscnn_fp32": (5, 320),
    "mamba_shakespeare_outliers": (10, 738),
    "mamba_shakespeare_outliers_all": (10, 738),
    "mamba_shakespeare_plain": (10, 738),
    "mamba_shakespeare_scan": (10, 738),
    "mnist_cntk": (2, 24),
    "mobilenet_v1_0.5_160_quant_deq": (14, 2992),
    "mobilenet_v2_1.0_224_quant_deq": (25, 9128),
    "resnet20_cifar10": (12, 400),
    "resnet8_fp32": (6, 224),
    "silero_vad_16k_op15": (5, 513),
    "squeezenet1.0_imagenet_fp32": (25, 2944),
    "stories260k_T128": (26, 1014),
    "vit_cifar10": (18, 1752),
    "vit_cifar10_outliers": (18, 1752),
    "vww96_fp32": (14, 1496),
}
"""Deletable groups and channels in them."""

SLOW = {
    "FastestDet", "mamba_shakespeare_outliers", "mamba_shakespeare_outliers_all",
    "vit_cifar10_outliers",
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_groups(name: str) -> None:
    graph = network(name)
    coupling, rng = Coupling(graph), np.random.default_rng(1)
    groups = coupling.deletable()
    assert (len(groups), sum(map(len, groups))) == EXPECTED[name]
    feed = random_feed(graph, rng)
    for fraction in (0.25, 0.5):
        assert difference(coupling, some(coupling, groups, fraction, rng), feed) <= 1e-5
    source = np.arange(coupling.count)
    for group in coupling.permutable():
        source[group.channels] = rng.permutation(group.channels)
    before, after = evaluate(graph, feed), evaluate(permute(coupling, source), feed)
    for key, array in before.items():
        scale = np.abs(array).max()
        assert np.abs(array.astype(np.float64) - after[key]).max() <= 1e-5 * scale


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in EXPECTED if n not in SLOW])
def test_every_group_alone(name: str) -> None:
    graph = doubled(network(name), SIDES.get(name, 0))
    coupling, rng = Coupling(graph), np.random.default_rng(2)
    feed = random_feed(graph, rng)
    for group in coupling.deletable():
        gone = some(coupling, [group], 0.25, rng)
        assert difference(coupling, gone, feed) <= 1e-9, group.name
