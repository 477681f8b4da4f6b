"""Equalized networks of the zoo compute what they did."""

from __future__ import annotations

import numpy as np
import pytest
from zoo_networks import SIDES, ZOO, doubled, network, random_feed

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.ir.evaluate import evaluate
from qc.ir.graph import Graph
from qc.passes.context import Context
from qc.passes.equalize import Equalize
from qc.passes.equalizing.solvers import SOLVERS
from qc.passes.fold_batchnorm import FoldBatchNorm
from qc.passes.measure import relative_difference
from qc.passes.split_layers import SplitLayers

pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")

SINGLE, DOUBLE = 1e-5, 1e-9
"""Greatest relative change of an output in float32 and in float64."""

NETWORKS = (
    "FastestDet",
    "SqueezeNet_fp16",
    "face_rfb320",
    "kws_dscnn_fp32",
    "mamba_shakespeare_outliers",
    "mamba_shakespeare_outliers_all",
    "mamba_shakespeare_plain",
    "mamba_shakespeare_scan",
    "mnist_cntk",
    "resnet20_cifar10",
    "resnet8_fp32",
    "silero_vad_16k_op15",
    "squeezenet1.0_imagenet_fp32",
    "stories260k_T128",
    "vit_cifar10",
    "vit_cifar10_outliers",
    "vww96_fp32",
)
"""Those that have sites."""

QUICK = ("kws_dscnn_fp32", "resnet8_fp32", "vit_cifar10_outliers")


def equalized(graph: Graph, solvers: str, context: Context) -> tuple[Graph, int]:
    after = graph.copy()
    found = Equalize(solvers).apply(after, context)
    return after, int(found["channels"])


def check(name: str, solvers: str, wide: bool, split: bool = False) -> None:
    graph, rng = network(name), np.random.default_rng(5)
    FoldBatchNorm().apply(graph, Context())
    if split:
        assert SplitLayers().apply(graph, Context())["rewrites"] == 6
    executor = None if wide else OnnxRuntimeExecutor()
    graph = doubled(graph, SIDES.get(name, 0)) if wide else graph
    feeds = [random_feed(graph, rng) for _ in range(2 if wide else 4)]
    after, count = equalized(graph, solvers, Context(calibration=feeds, executor=executor))
    assert count >= 8
    before, now = (list(evaluate(g, feeds[0]).values()) for g in (graph, after))
    assert relative_difference(before, now) <= (DOUBLE if wide else SINGLE)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("wide", [False, True])
def test_the_best_solvers_change_nothing(name: str, wide: bool) -> None:
    check(name, "best", wide)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in QUICK])
@pytest.mark.parametrize("wide", [False, True])
def test_the_best_solvers_change_nothing_anywhere(name: str, wide: bool) -> None:
    check(name, "best", wide)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_cifar10", "vit_cifar10_outliers"])
@pytest.mark.parametrize("wide", [False, True])
def test_values_that_were_packed_change_nothing(name: str, wide: bool) -> None:
    check(name, "cross-layer,smooth", wide, split=True)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["vit_cifar10_outliers", "stories260k_T128", "resnet20_cifar10"])
def test_no_solver_changes_anything(name: str, solver: str) -> None:
    check(name, solver, wide=False)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.5_160_quant_deq"])
def test_a_network_without_sites_stays(name: str) -> None:
    graph = network(name)
    before = str(graph)
    context = Context(calibration=[random_feed(graph, np.random.default_rng(0))])
    assert Equalize().apply(graph, context) == {"rewrites": 0, "channels": 0}
    assert str(graph) == before
