"""Views count elements."""

from qc.backends.codegen.kernels.view import View


def test_dense_span_is_the_size() -> None:
    view = View.dense(3, 4, 5, "uint8")
    assert (view.span, view.row_stride, view.pixel_stride) == (60, 20, 5)


def test_span_of_a_slice_ends_at_its_last_channel() -> None:
    assert View(2, 3, 16, 200, 64, "uint8").span == 200 + 2 * 64 + 16


def test_rows_join_only_without_a_gap() -> None:
    assert View(2, 3, 16, 3 * 64, 64, "uint8").rows_join
    assert not View(2, 3, 16, 4 * 64, 64, "uint8").rows_join
    assert View(1, 3, 16, 4 * 64, 64, "uint8").rows_join


def test_joined_keeps_the_pixels() -> None:
    joined = View(2, 3, 16, 3 * 64, 64, "uint8").joined()
    assert (joined.height, joined.width, joined.pixel_stride) == (1, 6, 64)
    assert joined.span == View(2, 3, 16, 3 * 64, 64, "uint8").span
