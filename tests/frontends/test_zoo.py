"""Real networks: the reader, the numpy meaning and the writer against onnxruntime."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.frontends.from_onnx import load
from qc.ir.bind import bind, free_symbols
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

ZOO = Path(os.environ.get("QC_ZOO") or Path(__file__).parents[3] / "shared" / "zoo") / "models"
pytestmark = pytest.mark.skipif(not ZOO.is_dir(), reason=f"no zoo at {ZOO} (set QC_ZOO)")

FILES = [
    "resnet20_cifar10",
    "resnet8_fp32",
    "squeezenet1.0_imagenet_fp32",
    "SqueezeNet_fp16",
    "mobilenet_v1_0.5_160_quant_deq",
    "mobilenet_v2_1.0_224_quant_deq",
    "vww96_fp32",
    "kws_dscnn_fp32",
    "face_rfb320",
    "FastestDet",
    "mnist_cntk",
    "stories260k_T128",
    "vit_cifar10",
    "vit_cifar10_outliers",
    "mamba_shakespeare_plain",
    "mamba_shakespeare_scan",
    "mamba_shakespeare_outliers",
    "mamba_shakespeare_outliers_all",
    "silero_vad_16k_op15",
]
SHAPES = {"silero_vad_16k_op15": {"input": (1, 512), "state": (2, 1, 128)}}


@pytest.mark.parametrize("name", FILES)
def test_network(name):
    path = ZOO / f"{name}.onnx"
    graph = load(path, SHAPES.get(name))
    graph = bind(graph, dict.fromkeys(free_symbols(graph), 2 if "vit" in name else 1))
    verify(graph)
    rng = np.random.default_rng(0)
    feed = {}
    for v in graph.inputs:
        real = rng.uniform(0, 1, v.shape).astype(v.type.dtype) if v.type.is_float else None
        feed[v.name] = rng.integers(0, 64, v.shape) if real is None else real
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    names = [o.name for o in session.get_outputs()]
    expected = dict(zip(names, session.run(None, feed), strict=True))
    for outputs in (evaluate(graph, feed), OnnxRuntimeExecutor().open(graph)(feed)):
        assert list(outputs) == names
        for key, want in expected.items():
            assert outputs[key].dtype == want.dtype
            worst = np.abs(outputs[key].astype(np.float64) - want).max()
            tolerance = 1e-3 if want.dtype == np.float16 else 1e-5
            assert worst <= tolerance * np.abs(want.astype(np.float64)).max()
