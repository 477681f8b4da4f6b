"""What solvers take the passes behind them for."""

import numpy as np
import pytest

from qc.ir.formats import parse
from qc.passes.encode import EncodeFormats
from qc.passes.equalizing.precision import AS_FLOAT, Precision
from qc.passes.quantize import QuantizeStatic


def test_codes_are_those_of_quantize() -> None:
    found = Precision.of([QuantizeStatic(weight_bits=4, activation_bits=6)])
    assert (found.activations, found.weights, found.biases) == (6, 4, True)
    rough = QuantizeStatic(rounding="nearest", bias_samples=0)
    assert not Precision.of([rough]).biases


def test_weights_in_groups_and_float_activations() -> None:
    found = Precision.of([EncodeFormats(weights="int4-32")])
    assert found.activations == AS_FLOAT
    rng = np.random.default_rng(0)
    w = rng.normal(size=(1, 5, 64)).astype(np.float32)
    w[..., 32:] *= 50
    np.testing.assert_array_equal(found.rounded_weights(w), parse("int4-32").round(w))
    x = rng.normal(size=1000).astype(np.float32)
    span = found.span(x, float(x.min()), float(x.max()))
    assert np.abs(found.rounded(x, span) - x).max() < 1e-6


@pytest.mark.parametrize("encode", [EncodeFormats(weights="mxfp4", activations="mxfp4")])
def test_encoded_activations_are_taken_for_codes(encode: EncodeFormats) -> None:
    assert Precision.of([encode]) == Precision()
