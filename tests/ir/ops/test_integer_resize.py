"""Linear interpolation of codes is that of reals, rounded half up once."""

import numpy as np
import pytest

from qc.ir.ops import QResize, Resize
from qc.passes.integers.fixed_point import fixed_shares

RULES = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]


def codes_of(op: Resize, x: np.ndarray, out: tuple[int, ...], bits: int) -> np.ndarray:
    axes = tuple(op.moved_axes(x.shape, out))
    operands = [x]
    for axis in axes:
        indices, weights = op.taps(axis, x.shape[axis], out[axis])
        shares = fixed_shares(weights, bits)
        assert (shares.sum(1) == 2**bits).all()
        assert (shares >= 0).all()
        operands += [indices.astype(np.int32), shares]
    return QResize(axes, bits).eval(operands)[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("out", [(1, 3, 16, 16), (2, 3, 5, 16), (1, 3, 13, 7)])
def test_within_a_step_of_the_reals(rule: str, out: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (out[0], 3, 5, 8), np.uint8)
    op = Resize("linear", sizes=out, coordinate_transformation_mode=rule)
    reals = op.eval([x.astype(np.float32)])[0].astype(np.float64)
    got = codes_of(op, x, out, 11)
    assert got.shape == out
    assert np.abs(got - reals).max() <= 0.5 + 255 * 2 * 2.0**-11


@pytest.mark.parametrize("code", [0, 1, 254, 255])
def test_constant_codes_stay(code: int) -> None:
    x = np.full((1, 2, 4, 4), code, np.uint8)
    op = Resize("linear", sizes=(1, 2, 9, 7))
    assert (codes_of(op, x, (1, 2, 9, 7), 11) == code).all()


def test_halves_round_up() -> None:
    x = np.array([[[[0, 1]]]], np.uint8)
    middle = [np.array([[0, 1]], np.int32), np.array([[1024, 1024]], np.int32)]
    assert QResize((3,), 11).eval([x, *middle])[0].item() == 1


def test_shares_sum_to_one_exactly() -> None:
    assert fixed_shares(np.full((1, 3), 1 / 3), 11).sum() == 2**11
    assert fixed_shares(np.full((1, 7), 1 / 7), 11).sum() == 2**11
