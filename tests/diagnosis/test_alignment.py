"""How far tensors are apart, up to what passes do to channels."""

import numpy as np
import pytest

from qc.diagnosis.alignment import EQUAL, MIXED, SAME, SCALED, Alignment

RNG = np.random.default_rng(0)


def compared(ours, real, scaled=True, mixed=True):
    one = Alignment(scaled, mixed)
    for x, y in zip(ours, real, strict=True):
        one.add(x, y)
    return one.best


def tensors(*shape, feeds=3):
    return [RNG.standard_normal(shape) for _ in range(feeds)]


def noisy(arrays, db):
    return [a + 10 ** (-db / 20) * RNG.standard_normal(a.shape) for a in arrays]


def test_the_same_numbers_are_equal() -> None:
    real = tensors(1, 8, 5, 5)
    assert compared(real, real) == (EQUAL, np.inf)


@pytest.mark.parametrize("db", [10.0, 40.0])
def test_noise_is_measured_as_it_is(db: float) -> None:
    real = tensors(1, 8, 20, 20)
    how, found = compared(noisy(real, db), real)
    assert how == SAME
    assert found == pytest.approx(db, abs=0.5)


@pytest.mark.parametrize("axis", [1, 3])
def test_channels_with_factors_and_offsets_are_scaled(axis: int) -> None:
    real = tensors(1, 6, 30, 7)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    factor, offset = (RNG.uniform(0.2, 5, real[0].shape[axis]).reshape(shape) for _ in range(2))
    how, found = compared([(y - offset) / factor for y in noisy(real, 30)], real)
    assert how == SCALED
    assert found == pytest.approx(30, abs=0.7)
    assert compared([y / factor for y in real], real, scaled=False, mixed=False)[1] < 10


def test_heads_and_their_channels_may_have_a_factor_each() -> None:
    real = tensors(1, 4, 40, 8)
    factor = RNG.uniform(0.1, 9, (1, 4, 1, 8))
    how, found = compared([y * factor for y in noisy(real, 25)], real)
    assert how == SCALED
    assert found == pytest.approx(25, abs=0.7)


def test_turned_channels_are_mixed() -> None:
    real = tensors(1, 60, 12)
    turn = np.linalg.qr(RNG.standard_normal((12, 12)))[0]
    how, found = compared([y @ turn for y in noisy(real, 35)], real)
    assert how == MIXED
    assert found == pytest.approx(35, abs=0.7)


def test_channels_that_are_gone_are_missed() -> None:
    real = tensors(1, 10, 16, 16)
    how, found = compared([y[:, :9] for y in real], real)
    assert how == MIXED
    assert found == pytest.approx(10, abs=0.5)  # of ten independent channels one is unknown


def test_too_few_positions_tell_nothing() -> None:
    real = tensors(1, 16, feeds=3)
    assert compared([y[:, :9] for y in real], real) == (MIXED, None)


def test_freedom_that_no_pass_had_is_not_taken() -> None:
    real = tensors(1, 8, 12, 12)
    assert compared([2 * y for y in real], real, scaled=False, mixed=False) == (
        SAME,
        pytest.approx(0, abs=1e-9),
    )


def test_masks_are_no_signal() -> None:
    real = tensors(1, 2, 16, 16)
    mask = np.triu(np.full((16, 16), -1e9), 1)
    infinite = np.where(mask < 0, -np.inf, 0.0)
    for hidden in (mask, infinite):
        how, found = compared([y + hidden for y in noisy(real, 20)], [y + hidden for y in real])
        assert how == SAME
        assert found == pytest.approx(20, abs=1)
