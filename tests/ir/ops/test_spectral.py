"""Fourier transforms and mel filters, against onnxruntime."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(2, 8, 3, 1)).astype(np.float32)
COMPLEX = RNG.normal(size=(2, 8, 3, 2)).astype(np.float32)


@pytest.mark.parametrize("axis", [1, 2, -2])
@pytest.mark.parametrize("length", [0, 5])
@pytest.mark.parametrize("inverse", [False, True])
def test_dft_of_complex_numbers(agree, inverse, length, axis):
    agree(ops.DFT(axis, length, inverse), COMPLEX, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("onesided", [False, True])
def test_dft_of_real_numbers(agree, onesided):
    agree(ops.DFT(1, 0, False, onesided), REAL, rtol=1e-4, atol=1e-4)


def test_half_of_the_frequencies_gives_the_numbers_back():
    (half,) = ops.DFT(1, onesided=True).eval([REAL])
    (again,) = ops.DFT(1, onesided=True, inverse=True).eval([half])
    assert half.shape == (2, 5, 3, 2)
    np.testing.assert_allclose(again, REAL, rtol=1e-5, atol=1e-6)


def test_no_transform_along_the_parts_of_a_number():
    graph = Graph("g")
    for axis in (-1, 3):
        with pytest.raises(VerifyError, match="no real or complex numbers"):
            graph.add(ops.DFT(axis), [graph.constant(COMPLEX)])


@pytest.mark.parametrize("onesided", [False, True])
@pytest.mark.parametrize("window", [False, True])
def test_stft(agree, window, onesided):
    signal = RNG.normal(size=(2, 40, 1)).astype(np.float32)
    weights = [np.hanning(16).astype(np.float32)] if window else []
    op = ops.STFT(8, 0 if window else 16, onesided)
    (y,) = agree(op, signal, *weights, rtol=1e-4, atol=1e-4)
    assert y.shape == (2, 4, 9 if onesided else 16, 2)


def test_mel_filters(agree):
    scalars = [np.asarray(v) for v in (8, 64, 8192)]
    edges = [np.asarray(v, np.float32) for v in (0, 4096)]
    (y,) = agree(ops.MelWeightMatrix(), *scalars, *edges, constants=range(5))
    assert y.shape == (33, 8)
