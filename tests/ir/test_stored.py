"""Integers are stored without bits that none of them uses, and come back as they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc.ir.stored import is_packed, packed, stored_bits, stored_bytes, unpacked


@given(
    dtype=st.sampled_from(["int8", "int16"]), bits=st.integers(2, 8),
    count=st.integers(8, 70), seed=st.integers(0, 1000),
)  # fmt: skip
def test_what_is_packed_comes_back(dtype: str, bits: int, count: int, seed: int) -> None:
    most = 2 ** (bits - 1) - 1
    codes = np.random.default_rng(seed).integers(-most, most + 1, (count, 1)).astype(dtype)
    codes[0] = most
    assert stored_bits(codes) == bits
    assert stored_bytes(codes) == -(-count * bits // 8) == packed(codes).size
    assert is_packed(codes) == ((dtype, bits) != ("int8", 8))
    again = unpacked(packed(codes), codes.shape, dtype)
    np.testing.assert_array_equal(again, codes)
    assert again.dtype == codes.dtype


def test_golden_bytes() -> None:
    """The first integer in the lowest bits, two's complement."""
    codes = np.array([1, -1, 3, -2, 0, 0, 0, -3], np.int8)
    assert packed(codes).tolist() == [0b11_111_001, 0b0000_110_0, 0b101_0_0000]


@pytest.mark.parametrize(
    ("codes", "bits"), [([-128], 8), ([300], 16), ([-200], 16), ([0], 2), ([], 2)]
)
def test_widths_at_the_edges(codes: list[int], bits: int) -> None:
    dtype = np.int16 if bits > 8 else np.int8
    assert stored_bits(np.array(codes, dtype)) == bits


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_other_elements_are_left_alone(dtype: str) -> None:
    data = np.ones(9, dtype)
    assert not is_packed(data)
    assert stored_bytes(data) == data.nbytes


@pytest.mark.parametrize(("size", "count"), [(3, 7), (2, 9), (10, 9), (0, 9)])
def test_a_wrong_size_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="packed integers are not"):
        unpacked(np.zeros(size, np.uint8), (count,), "int8")
