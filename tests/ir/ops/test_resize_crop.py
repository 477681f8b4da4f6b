"""Regions and kept ratios against onnxruntime."""

import numpy as np
import pytest

from qc.ir import ops
from qc.ir.ops.resize import Resize

X = np.random.default_rng(0).normal(size=(1, 2, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller", "stretch"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_ratio_may_be_kept(agree, mode, policy):
    op = ops.CroppedResize(Resize(mode), (2, 3), policy)
    (y,) = agree(op, X, np.array([9, 4]), rtol=1e-4, atol=1e-5)
    kept = {"not_larger": (5, 4), "not_smaller": (9, 8), "stretch": (9, 4)}
    assert y.shape[2:] == kept[policy]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_region(agree, mode):
    region = np.float32([0, 0, 0.25, -0.2, 1, 1, 0.75, 1.1])
    sizes = np.array([1, 2, 4, 7])
    op = ops.CroppedResize(Resize(mode), (0, 1, 2, 3), crop=True, extrapolation_value=9.0)
    (y,) = agree(op, X, sizes, region, constants=(2,), rtol=1e-4, atol=1e-4)
    assert (y[..., 0] == 9).all()
