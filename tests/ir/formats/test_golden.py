"""Codes and bytes that were worked out by hand, and the tables of the OCP specification."""

import ml_dtypes
import numpy as np
import pytest

from qc.ir.formats import Minifloat, Mx, parse
from qc.ir.formats.mx import FLOATS

MX_ON_NORMAL = {
    "mxint8": 6.9e-5, "mxfp6-e2m3": 8.0e-4, "mxfp8-e4m3": 8.6e-4, "mxfp6-e3m2": 2.9e-3,
    "mxfp4": 1.33e-2,
}  # fmt: skip
"""Energy of the error over that of N(0, 1)."""


def test_bfp4_by_hand() -> None:
    """Greatest 7.9: exponent 2, step 1; ties go to the even code, 7.9 saturates at 7."""
    f = parse("bfp4-8")
    encoded = f.encode(np.float32([7.9, -3.0, 0.5, 1.5, 2.5, -0.49, -7.0, 0.0]))
    assert encoded.scales.tolist() == [127 + 2]
    assert encoded.codes.tolist() == [[7, 13, 0, 2, 2, 0, 9, 0]]
    assert f.pack(encoded).tolist() == [129, 0xD7, 0x20, 0x02, 0x09]
    assert f.decode(encoded).tolist() == [7, -3, 0, 2, 2, 0, -7, 0]


def test_a_small_exponent_saturates_and_underflows() -> None:
    """Three bits of exponent are -3 ... 3: beyond 2**3 numbers end at 7/4 of it."""
    f = parse("bfp4e3-1")
    assert f.round(np.float32([100.0, 2.0**-3, 2.0**-5, 2.0**-7])).tolist() == [
        14.0, 2.0**-3, 2.0**-5, 0.0,
    ]  # fmt: skip


def test_mxfp4_by_hand() -> None:
    """Greatest 5.2: scale 2**0; all magnitudes of E2M1, ties to even, saturation."""
    x = np.zeros(32, np.float32)
    x[:12] = [5.2, 0.5, 1, 1.5, 2, 3, 4, 6, 0.25, 0.75, -2.5, -7.9]
    encoded = Mx().encode(x)
    assert encoded.scales.tolist() == [127]
    assert encoded.codes[0, :12].tolist() == [6 + 1, 1, 2, 3, 4, 5, 6, 7, 0, 2, 12, 15]
    packed = Mx().pack(encoded)
    assert packed.tolist()[:7] == [127, 0x17, 0x32, 0x54, 0x76, 0x20, 0xFC]
    assert len(packed) == 17


def test_mxint8_by_hand() -> None:
    """Greatest 3: scale 2**1, steps of 2/64; -4 would be -128, the range is symmetric."""
    f = parse("mxint8")
    encoded = f.encode(np.float32([3.0, -3.999, 1 / 64, 3 / 64, 2 / 64]))
    assert encoded.scales.tolist() == [128]
    assert encoded.codes[0, :5].tolist() == [96, 256 - 127, 0, 2, 1]


@pytest.mark.parametrize(
    ("name", "greatest", "emax"),
    [("fp8-e4m3", 448, 8), ("fp8-e5m2", 57344, 15), ("fp6-e3m2", 28, 4), ("fp6-e2m3", 7.5, 2),
     ("fp4", 6, 2), ("int8", 127 / 64, 0)],
)  # fmt: skip
def test_greatest_elements_of_the_specification(name: str, greatest: float, emax: int) -> None:
    f = Mx(element=name)
    assert f.emax == emax
    x = np.float32([np.nextafter(np.float32(2.0 ** (emax + 1)), np.float32(0))])
    assert f.round(x).tolist() == [greatest]
    assert f.encode(x).scales.tolist() == [127]


def test_the_scale_saturates_and_255_is_nan() -> None:
    f = Mx()
    tiny = f.encode(np.float32([2.0**-140]))
    assert tiny.scales.tolist() == [0]
    assert f.encode(np.float32([np.nan])).scales.tolist() == [255]
    assert f.pack(f.encode(np.float32([np.inf])))[0] == 255
    top = np.float32([np.finfo(np.float32).max])
    assert f.encode(top).scales.tolist() == [127 + 127 - 2]


@pytest.mark.parametrize("name", FLOATS)
def test_infinities_and_nans_among_elements_are_read(name: str) -> None:
    """Files of others may have them: E4M3 has NaN, E5M2 infinities as well, the rest none."""
    f, dtype = Mx(element=name), FLOATS[name][0]
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    found = f.values(codes, np.uint16([127]))
    np.testing.assert_array_equal(found, codes.view(dtype).astype(np.float32))
    count = {"fp8-e4m3": 2, "fp8-e5m2": 8}.get(name, 0)
    assert np.sum(~np.isfinite(found)) == count


@pytest.mark.parametrize(
    ("exponent", "mantissa", "dtype"),
    [(2, 1, ml_dtypes.float4_e2m1fn), (2, 3, ml_dtypes.float6_e2m3fn),
     (3, 2, ml_dtypes.float6_e3m2fn)],
)  # fmt: skip
def test_small_floats_are_those_of_ml_dtypes(exponent: int, mantissa: int, dtype: type) -> None:
    f = Minifloat(exponent, mantissa)
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    values = codes.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(f.values(codes), values)
    np.testing.assert_array_equal(f.codes(values), codes)
    edges = (values[:-1] + values[1:]) / 2
    x = np.concatenate([edges, np.random.default_rng(0).normal(0, 3, 4000)]).astype(np.float32)
    x = np.clip(x, -f.greatest, f.greatest)
    np.testing.assert_array_equal(f.codes(x), x.astype(dtype).view(np.uint8))


@pytest.mark.parametrize(
    ("exponent", "mantissa", "magnitudes"),
    [
        (2, 1, [0, 0.5, 1, 1.5, 2, 3, 4, 6]),
        (3, 0, [0, 0.25, 0.5, 1, 2, 4, 8, 16]),
        (1, 2, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
    ],
)
def test_floats_of_four_bits(exponent: int, mantissa: int, magnitudes: list[float]) -> None:
    f = Minifloat(exponent, mantissa)
    assert f.values(np.arange(16, dtype=np.uint8)).tolist() == [
        *magnitudes,
        *(-m for m in magnitudes),
    ]
    assert f.greatest == magnitudes[-1]


def test_a_real_bias_moves_the_grid() -> None:
    """The greatest number of the block is the greatest one of the grid: 9 / 6 is 1.5."""
    f = parse("e2m1")
    assert f.round(np.float32([9, -4.5, 0.7, 3.1])).tolist() == [9, -4.5, 0.75, 3.0]
    assert f.encode(np.float32([9])).scales.tolist() == [0x3FC0]


def test_whole_numbers_by_hand() -> None:
    f = parse("int4")
    encoded = f.encode(np.float32([7, -7, 0.5, 1.5, -2.6]))
    assert encoded.codes.tolist() == [[7, 9, 0, 2, 13]]
    assert f.pack(encoded).tolist() == [0x80, 0x3F, 0x97, 0x20, 0x0D]
    assert parse("int2").round(np.float32([3, 1.4, -1.6, 0])).tolist() == [3, 0, -3, 0]


def test_logarithms_by_hand() -> None:
    half = float(np.float32(np.sqrt(2)) / 2)
    f = parse("log2-3bit")
    assert f.encode(np.float32([1, 0.5, 0.3, 2.0**-6, 2.0**-7, 0, -1])).codes.tolist() == [
        [0, 1, 2, 6, 7, 7, 7]
    ]
    f = parse("logsqrt2-3bit")
    encoded = f.encode(np.float32([1, 0.72, 0.5, 0.125, 0.08]))
    assert encoded.codes.tolist() == [[0, 1, 2, 6, 7]]
    assert f.decode(encoded).tolist() == [1, half, 0.5, 0.125, 0]


@pytest.mark.parametrize(("name", "expected"), MX_ON_NORMAL.items())
def test_error_on_normal_numbers(name: str, expected: float) -> None:
    """Within 2 per cent, and the unit of the last digit that is given."""
    x = np.random.default_rng(0).standard_normal((1 << 16, 32)).astype(np.float32)
    error = x - parse(name).round(x).astype(np.float64)
    found = np.square(error).mean() / np.square(x, dtype=np.float64).mean()
    assert found == pytest.approx(expected, rel=0.02)
