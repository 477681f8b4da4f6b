"""Compiled products with Hadamard matrices say what the reference says."""

import numpy as np
import pytest
from compiled import Compiled, compile_all
from networks import Net

from qc.ir import ops
from qc.ir.ops import elementwise as ew


def rows(net: Net, *shape: int) -> None:
    """Behind another op, so that rows have a layout of their own."""
    net.out(net.add(ops.Hadamard(), net.add(ew.Neg(), net.floats(*shape))))


def strided(net: Net) -> None:
    """Channels before time."""
    x = net.add(ops.Transpose((0, 2, 1)), net.floats(2, 24, 21))
    net.out(net.add(ops.Hadamard(), x))


NETWORKS = {
    "powers": lambda net: rows(net, 2, 19, 64),
    "core": lambda net: rows(net, 3, 12),
    "both": lambda net: rows(net, 1, 40, 192),
    "single": lambda net: rows(net, 1, 1),
    "vector": lambda net: rows(net, 16),
    "wide": lambda net: rows(net, 5, 1024),
    "strided": strided,
}


@pytest.fixture(scope="module", params=["x86", "arm-v8", "cuda"])
def products(request, tmp_path_factory) -> Compiled:
    return compile_all(request.param, NETWORKS, tmp_path_factory.mktemp("hadamard") / "out")


@pytest.mark.parametrize("name", NETWORKS)
def test_says_what_the_reference_says(products: Compiled, name: str) -> None:
    got = products.artifact.run(products.feed)
    for output in products.outputs[name]:
        want = products.want[output]
        assert np.abs(want).max() > 0.1
        assert np.abs(got[output] - want).max() <= 1e-5 * np.abs(want).max()
