"""What weights in a format can be: nearest elements, exact steps, bytes that decode to both."""

from __future__ import annotations

import numpy as np
import pytest

from qc.ir.formats import EXAMPLES, Bfp, Logarithmic, Mx, parse
from qc.passes.rounding.elements import Elements

NAMES = [name for name in EXAMPLES if not isinstance(parse(name), Logarithmic)]


def all_elements(elements: Elements) -> np.ndarray:
    """Every number that a code stands for, in steps; what is no number left out."""
    f = elements.format
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    one = elements.scales(np.ones(1))
    with np.errstate(invalid="ignore"):
        found = f.values(codes, one).astype(np.float64)
    return np.unique(found[np.isfinite(found)])


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_of_all_codes(name: str) -> None:
    elements = Elements.of(name)
    assert elements is not None
    known = all_elements(elements)
    if isinstance(elements.format, Bfp) or name == "mxint8":
        known = known[1:]  # symmetric: the least number of two's complement is not used
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(1.3 * known[0], 1.3 * known[-1], 3000), known, [0.0]])
    found = elements.nearest(x)
    assert np.isin(found, known).all()
    best = np.abs(x[:, None] - known).min(1)
    np.testing.assert_allclose(np.abs(found - x), best, rtol=1e-5, atol=1e-6 * known[-1])
    np.testing.assert_array_equal(elements.nearest(known), known)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_stand_for_elements_times_steps(name: str) -> None:
    elements = Elements.of(name)
    assert elements is not None
    f, rng = elements.format, np.random.default_rng(1)
    size, length = f.size(48), 48
    blocks = f.blocks(length)
    x = rng.standard_normal((5, blocks, size)) * np.exp2(rng.integers(-12, 12, (5, blocks, 1)))
    for steps in elements.steps(np.abs(x).max(-1)):
        numbers = elements.nearest(x / steps[..., None])
        packed = f.pack(elements.encoded(numbers, steps, length))
        assert packed.shape == (5, f.bytes(length))
        whole = (numbers * steps[..., None]).reshape(5, -1)[:, :length]
        np.testing.assert_array_equal(f.decode(f.unpack(packed, length)), whole)


@pytest.mark.parametrize("name", NAMES)
def test_steps_of_blocks_that_are_empty_tiny_and_huge(name: str) -> None:
    elements = Elements.of(name)
    assert elements is not None
    reach = np.array([0.0, 1e-42, 1e-30, 1.0, 3e38])
    for steps in elements.steps(reach):
        assert np.isfinite(steps).all()
        assert (steps != 0).all()
        scales = elements.scales(steps)
        assert (scales != elements.format.undefined).all()
        one = np.ones((5, 1))
        encoded = elements.encoded(elements.nearest(one), steps, 1)
        found = elements.format.values(encoded.codes, encoded.scales[:, None])
        np.testing.assert_array_equal(found[:, 0], (elements.nearest(one) * steps[:, None])[:, 0])


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(parse(n), Bfp | Mx)])
def test_the_first_step_is_that_of_the_format(name: str) -> None:
    elements = Elements.of(name)
    assert elements is not None
    x = np.random.default_rng(2).standard_normal((9, 1, 16)).astype(np.float32)
    x[4] = 0
    first, up, down = elements.steps(np.abs(x).max(-1).astype(np.float64))
    np.testing.assert_array_equal(elements.scales(first), elements.format.scales(x))
    some = np.arange(9) != 4
    np.testing.assert_array_equal(up[some], 2 * first[some])
    np.testing.assert_array_equal(down[some], first[some] / 2)
    np.testing.assert_array_equal(down[4], first[4])


def test_logarithms_have_no_step() -> None:
    assert Elements.of("log2-4bit") is None
