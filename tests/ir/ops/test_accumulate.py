"""Fused multiply-add rounds once, as the exact rational result says."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from qc.ir.ops.accumulate import fused_multiply_add

NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def rounded(exact: Fraction) -> np.float32:
    """The nearest float32, the even one of two."""
    near = np.float32(float(exact))
    around = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.int32)) & 1))


@given(NUMBERS, NUMBERS, NUMBERS)
@example(1.0 + 2.0**-12, 1.0 + 2.0**-12, -1.0)
@example(float(np.float32(0.1)), 10.0, -1.0)
@example(4097.0, 4097.0, 2.0**-20)
def test_one_rounding(a: float, b: float, c: float) -> None:
    got = fused_multiply_add(*(np.array([x], np.float32) for x in (a, b, c)))[0]
    want = rounded(Fraction(a) * Fraction(b) + Fraction(c))
    assert got.dtype == np.float32
    assert got == want or (abs(want) < 1e-37 and abs(got) < 1e-37)


def test_double_rounding_is_avoided() -> None:
    a, b = np.float32(1 + 2.0**-18), np.float32(2.0**-24 * (1 - 2.0**-18))
    c = np.float32(1 + 2.0**-23)
    exact = rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) != exact
    assert fused_multiply_add(a, b, c) == exact


def test_broadcasting() -> None:
    a, b = np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)
    assert fused_multiply_add(a, b, np.float32(1)).tolist() == [[3.0] * 3] * 2
