"""Matrices of 1 and -1 with orthogonal rows, and the orders that have none here."""

from __future__ import annotations

import numpy as np
import pytest

from qc.ir.hadamard import hadamard, split

ORDERS = [1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 56, 60, 64, 68, 72, 76, 80, 84, 88,
          96, 128, 192, 240, 768, 960]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_rows_are_orthogonal(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    assert np.array_equal(np.abs(matrix), np.ones((order, order)))
    assert np.array_equal(matrix @ matrix.T, order * np.eye(order))


@pytest.mark.parametrize("order", [-4, 0, 3, 5, 6, 10, 18, 30, 52, 92])
def test_other_orders_have_none(order: int) -> None:
    assert hadamard(order) is None


def test_the_part_without_a_butterfly_is_the_least() -> None:
    assert {n: split(n) for n in (64, 96, 192, 960, 28)} == {
        64: (64, 1), 96: (8, 12), 192: (16, 12), 960: (16, 60), 28: (1, 28)
    }  # fmt: skip
