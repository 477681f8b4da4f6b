"""The forms of a single operator that are timed side by side compute the same."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from operator_models import Convolution, Model, Product, channels_last
from peaks import peak_of

from qc.frontends.from_onnx import load
from qc.ir.evaluate import evaluate

OPERATORS = [
    Product(3, 32, 48), Product(1, 64, 16), Convolution(8, 16, 6, 3), Convolution(16, 8, 5, 1),
    Convolution(16, 16, 7, 3, 16),
]  # fmt: skip


def run(model: Model) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), options)
    return channels_last(model, session.run(None, model.feed)[0])


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_all_forms_agree(operator: Product | Convolution) -> None:
    ours = operator.ours()
    want = evaluate(load(ours.proto), ours.feed)["y"].astype(np.int16)
    assert want.std() > 20, "the codes fill their range"
    exact = {name: m for name, m in operator.rivals().items() if name.endswith("u8u8")}
    assert len(exact) == 2
    for name, model in exact.items():
        assert np.abs(run(model).astype(np.int16) - want).max() <= 1, name


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_the_float_twin_has_the_shape_of_the_codes(operator: Product | Convolution) -> None:
    real, codes = operator.real(), operator.ours()
    got = onnxruntime.InferenceSession(real.proto.SerializeToString()).run(None, real.feed)[0]
    assert got.size == run(codes).size
    assert operator.macs % got.size == 0


def test_peaks_follow_the_features_that_kernels_may_use() -> None:
    assert peak_of({"avx2"}) == "qc_peak_avx2_short"
    assert peak_of({"avx2", "avxvnni"}) is None
    assert peak_of({"avx2", "avxvnni", "avx512vnni"}) == "qc_peak_avx512vnni"
    assert peak_of({"avx2", "avx512vnni", "amx-int8"}) == "qc_peak_amx"
    assert peak_of({"neon"}) is None
