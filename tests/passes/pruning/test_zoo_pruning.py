"""Real networks lose 30 % of their MACs: valid graphs that onnxruntime runs, budgets met."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from zoo_networks import ZOO, network, random_feed

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.backends.qdq.writer import to_onnx
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify
from qc.passes import Context, PruneChannels
from qc.passes.measure import macs

NAMES = [
    "FastestDet", "SqueezeNet_fp16", "face_rfb320", "kws_dscnn_fp32",
    "mamba_shakespeare_outliers_all", "mamba_shakespeare_plain", "mamba_shakespeare_scan",
    "mnist_cntk",
    "mobilenet_v1_0.5_160_quant_deq", "mobilenet_v2_1.0_224_quant_deq", "resnet20_cifar10",
    "resnet8_fp32", "squeezenet1.0_imagenet_fp32", "stories260k_T128", "vit_cifar10",
    "vit_cifar10_outliers", "vww96_fp32",
]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)"),
]


@pytest.mark.parametrize("criterion", ["l2", "obs"])
@pytest.mark.parametrize("name", NAMES)
def test_thirty_percent(name: str, criterion: str) -> None:
    graph = network(name)
    rng = np.random.default_rng(0)
    feeds = [random_feed(graph, rng) for _ in range(5)]
    context = Context(calibration=feeds[:4], executor=OnnxRuntimeExecutor())
    small = graph.copy()
    compensate = "none" if criterion == "l2" else "sequential"
    how = PruneChannels(
        macs=0.7, criterion=criterion, allocation="ranked", compensate=compensate, min_channels=2
    )
    how.apply(small, context)
    verify(small)
    assert 0.68 <= macs(small) / macs(graph) <= 0.7
    model = to_onnx(small)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = evaluate(small, feeds[4])
    found = dict(zip(expected, session.run(list(expected), feeds[4]), strict=True))
    for key, array in expected.items():
        scale = float(np.abs(array).max())
        assert np.isfinite(scale)
        tolerance = 2e-3 if array.dtype == np.float16 else 1e-4
        assert np.abs(found[key].astype(np.float64) - array).max() <= tolerance * scale
