"""Affine layouts against numpy's own views."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qc.backends.codegen.layout import Halo, Strided, channels_last, rows

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def read(memory: np.ndarray, view: Strided, offset: int = 0) -> np.ndarray:
    """The elements that a layout describes."""
    strides = [s * memory.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(memory[offset:], view.shape, strides)


@given(shapes, st.randoms())
def test_transpose_and_reshape_are_numpys(shape: tuple[int, ...], random: object) -> None:
    perm = list(range(len(shape)))
    random.shuffle(perm)  # type: ignore[attr-defined]
    memory = np.arange(np.prod(shape))
    view = Strided.dense("int64", shape).transposed(tuple(perm))
    want = memory.reshape(shape).transpose(perm)
    np.testing.assert_array_equal(read(memory, view), want)
    flat = view.reshaped((int(np.prod(shape)),))
    if flat is not None:
        np.testing.assert_array_equal(read(memory, flat), want.ravel())
    else:
        assert not want.flags.c_contiguous


def test_channels_last_with_a_border() -> None:
    made = channels_last("uint8", (2, 3, 4, 5), 16, Halo((1, 2), (0, 1)))
    assert made.view.strides == (5 * 8 * 16, 1, 8 * 16, 16)
    assert made.offset == (1 * 8 + 2) * 16
    assert made.elements == 2 * 5 * 8 * 16
    assert made.offset + made.view.span <= made.elements


def test_a_reshape_across_padded_channels_needs_a_copy() -> None:
    view = channels_last("uint8", (1, 3, 4, 5)).view
    assert view.reshaped((1, 60)) is None
    assert view.reshaped((1, 3, 20)) is not None


def test_rows_are_padded_to_lanes() -> None:
    made = rows("uint8", (2, 5, 10), 16)
    assert made.view.strides == (80, 16, 1)
    assert made.elements == 160


def test_slices_and_broadcasts() -> None:
    view = Strided.dense("uint8", (4, 6))
    part, offset = view.sliced((1, 4), (2, 2), (1, -2))
    memory = np.arange(24, dtype=np.uint8)
    np.testing.assert_array_equal(read(memory, part, offset), memory.reshape(4, 6)[1:3, 4:0:-2])
    assert view.broadcast((3, 4, 6)).strides == (0, 6, 1)


def test_halo_covers_what_it_has_grown_to() -> None:
    halo = Halo().grown((1, 1, 0, 2)).grown((0, 3, 0, 0))
    assert halo == Halo((1, 3), (0, 2))
    assert halo.covers((1, 0, 0, 1))
    assert not halo.covers((2, 0, 0, 0))


def test_a_scalar_is_stored_as_one_element() -> None:
    assert Strided.dense("int64", (1,)).broadcast(()) == Strided("int64", (), ())
    assert Strided.dense("int64", (1,)).broadcast((2, 3)).strides == (0, 0)
