"""Constant indices that are evenly spaced cost nothing: the result is a view."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from networks import Net

from qc.backends.codegen.lower import lower
from qc.ir.ops import index, shape

AVX2 = frozenset({"avx2"})


def kernels(net: Net) -> list[str]:
    """Of every call."""
    program = lower(net.graph, AVX2)
    return [program.kernels[call.symbol].label for call in program.calls]


@pytest.mark.parametrize(
    ("indices", "picks"),
    [(3, 0), ([3], 0), ([1, 3, 5], 0), ([-1, -2, -3], 0), ([2, 2], 0), ([-1, 0, 1], 1)],
)
def test_evenly_spaced_indices_are_a_view(indices: int | list[int], picks: int) -> None:
    net = Net()
    net.real(net.add(index.Gather(1), net.codes(1, 16, 9, 9), net.const(np.array(indices))))
    assert kernels(net).count("pick") == picks


def test_a_shuffle_of_channels_is_one_copy_a_branch() -> None:
    """As in ShuffleNet: every other channel goes to one branch, the rest to the other."""
    net = Net()
    x = net.conv(net.codes(1, 32, 6, 6), 32)
    pairs = net.add(shape.Reshape((1, 16, 2, 6, 6)), x)
    halves = net.add(shape.Transpose((2, 0, 1, 3, 4)), pairs)
    for half in (0, 1):
        part = net.add(index.Gather(0), halves, net.const(np.array(half)))
        net.real(net.conv(part, 16, (1, 1)))
    found = kernels(net)
    assert found.count("pick") == 0
    without = Net()
    x = without.conv(without.codes(1, 32, 6, 6), 32)
    for first in (0, 16):
        part = without.add(index.Slice((first,), (first + 16,), (1,)), x)
        without.real(without.conv(part, 16, (1, 1)))
    assert found.count("copy") == kernels(without).count("copy") + 2
