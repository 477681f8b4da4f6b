"""Compiled code returns exactly the integers of the numpy reference."""

import numpy as np
import pytest
from compiled import Compiled
from networks import ISLANDS, LAYERS, OTHERS


def check(compiled: Compiled, name: str) -> None:
    """All outputs of one network are equal, and none is degenerate."""
    got = compiled.artifact.run(compiled.feed)
    for output in compiled.outputs[name]:
        want = compiled.want[output]
        assert got[output].dtype == want.dtype
        np.testing.assert_array_equal(got[output], want, err_msg=output)
        assert want.size < 20 or len(np.unique(want)) > 3, f"{output} says nothing"


def check_islands(compiled: Compiled, name: str) -> None:
    """All outputs of one network are close, relative to their greatest magnitude."""
    got = compiled.artifact.run(compiled.feed)
    for output in compiled.outputs[name]:
        want = compiled.want[output]
        assert got[output].dtype == want.dtype
        room = 1e-5 * (1 + np.abs(want.astype(np.float64)).max())
        np.testing.assert_allclose(got[output], want, rtol=1e-5, atol=room, err_msg=output)


@pytest.mark.parametrize("name", [*LAYERS])
def test_layers(layers_here: Compiled, name: str) -> None:
    check(layers_here, name)


@pytest.mark.parametrize("name", [*OTHERS])
def test_others(others: Compiled, name: str) -> None:
    check(others, name)


@pytest.mark.parametrize("name", [*OTHERS])
def test_others_on_amx(others_on_amx: Compiled, name: str) -> None:
    check(others_on_amx, name)


@pytest.mark.parametrize("name", [*OTHERS])
def test_others_on_arm(others_on_arm: Compiled, name: str) -> None:
    check(others_on_arm, name)


@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_every_network_on_cuda(everything_on_cuda: Compiled, name: str) -> None:
    check(everything_on_cuda, name)


@pytest.mark.parametrize("name", [*LAYERS])
def test_layers_on_every_instruction_set(layers: Compiled, name: str) -> None:
    check(layers, name)


@pytest.mark.parametrize("name", [*ISLANDS])
def test_float_islands(islands: Compiled, name: str) -> None:
    check_islands(islands, name)


@pytest.mark.parametrize("name", [*ISLANDS])
def test_float_islands_on_arm(islands_on_arm: Compiled, name: str) -> None:
    check_islands(islands_on_arm, name)


@pytest.mark.parametrize("name", [*ISLANDS])
def test_float_islands_on_cuda(everything_on_cuda: Compiled, name: str) -> None:
    check_islands(everything_on_cuda, name)
