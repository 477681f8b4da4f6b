"""What all formats have in common: packing, idempotence, bounds, order, blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qc.ir.errors import PreconditionError
from qc.ir.formats import EXAMPLES, Bfp, Logarithmic, Mx, ScaledInt, parse
from qc.ir.types import Array

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=70), elements=FINITE)


def positive(name: str, x: Array) -> Array:
    return np.abs(x) if isinstance(parse(name), Logarithmic) else x


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=25)
@given(x=ARRAYS, data=st.data())
def test_packed_unpacked_and_encoded_again_nothing_changes(
    name: str, x: Array, data: st.DataObject
) -> None:
    f, axis = parse(name), data.draw(st.integers(-x.ndim, x.ndim - 1))
    encoded = f.encode(positive(name, x), axis)
    packed = f.pack(encoded)
    assert packed.dtype == np.uint8
    assert packed.shape[-1] == f.bytes(x.shape[axis])
    back = f.unpack(packed, x.shape[axis])
    np.testing.assert_array_equal(back.scales, encoded.scales)
    np.testing.assert_array_equal(back.codes, encoded.codes)
    once = f.decode(back, axis)
    assert (once.shape, once.dtype) == (x.shape, np.float32)
    np.testing.assert_array_equal(f.round(once, axis), once)


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=25)
@given(x=hnp.arrays(np.float32, st.integers(1, 16), elements=FINITE))
def test_order_within_a_block_is_kept(name: str, x: Array) -> None:
    rounded = parse(name).round(np.sort(positive(name, x)))
    assert np.all(np.diff(rounded) >= 0)


def bound(name: str, x: Array) -> Array:
    """How far a number of a block may be from what is left of it (spacing of the elements)."""
    f = parse(name)
    top = np.abs(x.astype(np.float64)).max()
    at = np.abs(x.astype(np.float64))
    if isinstance(f, Bfp):
        least = 1 - 2.0 ** (f.e - 1)
        step = 2.0 ** (np.maximum(np.floor(np.log2(top)), least) - f.m + 2)
        return np.maximum(np.full(x.shape, step / 2), at - (2 ** (f.m - 1) - 1) * step)
    if isinstance(f, ScaledInt):
        return np.full(x.shape, top / f.top * (1 + 2.0**-8) / 2)
    mantissa, least, greatest = {
        "mxint8": (6, 0, 127 / 64), "mxfp8-e4m3": (3, -6, 448), "mxfp8-e5m2": (2, -14, 57344),
        "mxfp6-e3m2": (2, -2, 28), "mxfp6-e2m3": (3, 0, 7.5), "mxfp4": (1, 0, 6),
        "e2m1": (1, 0, 6), "e3m0-32": (0, -2, 16), "e1m2": (2, 1, 3.5),
    }[name]  # fmt: skip
    factor = top / greatest * (1 + 2.0**-8)
    if isinstance(f, Mx):
        factor = 2.0 ** (np.floor(np.log2(top)) - f.emax)
    floor = np.maximum(np.floor(np.log2(np.maximum(at / factor, 2.0**-40))), least)
    return np.maximum(2.0 ** (floor - mantissa) / 2 * factor, at - greatest * factor)


@pytest.mark.parametrize("name", [n for n in EXAMPLES if not n.startswith("log")])
@settings(max_examples=40)
@given(
    x=hnp.arrays(np.float32, st.integers(1, 16), elements=st.floats(-1000, 1000, width=32)).filter(
        lambda x: np.abs(x).max() > 2.0**-40
    )
)
def test_no_number_is_farther_off_than_half_a_step(name: str, x: Array) -> None:
    error = np.abs(parse(name).round(x) - x.astype(np.float64))
    # A factor that was rounded to bfloat16 moves the binades by up to 2**-8.
    assert np.all(error <= bound(name, x) * (1 + 2.0**-6) + 2.0**-60)


@settings(max_examples=40)
@given(
    x=hnp.arrays(np.float32, st.integers(1, 16), elements=st.floats(2.0**-20, 1, width=32)),
    steps=st.sampled_from([1, 2]),
)
def test_a_logarithm_is_off_by_half_a_step_or_zero(x: Array, steps: int) -> None:
    f = Logarithmic(0, 4, steps)
    y = f.round(x)
    kept = y > 0
    assert np.all(np.abs(np.log2(y[kept] / x[kept])) <= 0.5 / steps + 0.01)
    assert np.all(x[~kept] <= x.max() * 2.0 ** (-14 / steps))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_its_block_nan(name: str, bad: float) -> None:
    f = parse(name)
    x = np.ones((2, 40), np.float32)
    x[0, 3] = bad
    y = f.round(x)
    size = f.size(40)
    assert np.isnan(y[0, :size]).all()
    assert np.isfinite(y[0, size:]).all()
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_zeros_stay(name: str) -> None:
    x = np.zeros((3, 5), np.float32)
    np.testing.assert_array_equal(parse(name).round(x), x)


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_are_read_as_they_are_written(name: str) -> None:
    assert parse(name).name == name


@pytest.mark.parametrize(
    ("name", "length", "size", "padding"),
    [
        ("mxfp4", 64, 2 * (1 + 16), 0),
        ("mxfp4", 33, 2 * (1 + 16), 31),
        ("mxfp6-e2m3", 32, 1 + 24, 0),
        ("mxint8", 32, 33, 0),
        ("bfp4-16", 16, 1 + 8, 0),
        ("bfp4-16", 3, 1 + 8, 13),
        ("bfp5-16", 16, 1 + 10, 0),
        ("int4-32", 64, 2 * (2 + 16), 0),
        ("int3", 10, 2 + 4, 0),
        ("e2m1", 10, 2 + 5, 0),
    ],
)
def test_bytes_and_padding(name: str, length: int, size: int, padding: int) -> None:
    assert parse(name).bytes(length) == size
    assert parse(name).padding(length) == padding


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mxfp5", "did you mean 'mxfp4'"),
        ("bfp9-16", "take 2 to 8 bits"),
        ("int1", "take 2 to 8 bits"),
        ("log2-9bit", "take 2 to 8 bits"),
        ("float7", "there is no number format"),
        ("bfp4-0", "there is no number format"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(PreconditionError, match=message):
        parse(name)


def test_bytes_of_another_length_are_refused() -> None:
    f = parse("mxfp4")
    with pytest.raises(ValueError, match="33 elements of mxfp4 are 34 bytes, not 17"):
        f.unpack(f.pack(f.encode(np.ones(32, np.float32))), 33)


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_number_alone_is_kept(name: str) -> None:
    """But for what rounding a real factor to bfloat16 moves."""
    found = parse(name).round(np.float32([1.0]))
    np.testing.assert_allclose(found, [1.0], 0 if name[:2] in ("mx", "bf") else 2.0**-8)
