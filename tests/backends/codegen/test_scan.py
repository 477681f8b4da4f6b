"""The compiled selective scan says what its reference says, on every kind of machine."""

import numpy as np
import pytest
from compiled import Compiled, compile_all
from networks import Net

from qc.backends.codegen.lower import lower
from qc.ir import Graph, ops
from qc.ir.errors import BackendError
from qc.ir.ops import activation as act
from qc.ir.ops import elementwise as ew
from qc.ir.types import TensorType


def operands(net: Net, batch: int, length: int, channels: int, states: int) -> list:
    """u, delta (before its softplus), A (constant, negative), B and C."""
    u, delta = (net.floats(batch, length, channels) for _ in range(2))
    a = net.const(-np.exp(net.rng.normal(size=(channels, states))).astype(np.float32))
    b, c = (net.floats(batch, length, states) for _ in range(2))
    return [u, delta, a, b, c]


def bare(net: Net) -> None:
    """Fewer channels than a block; delta is as it is."""
    u, delta, *rest = operands(net, 2, 5, 6, 3)
    net.out(net.add(ops.SelectiveScan(), u, net.add(ops.Abs(), delta), *rest))


def whole(net: Net) -> None:
    """All optional operands and the last state; the last block overlaps the one before it."""
    ins = operands(net, 2, 9, 39, 4)
    ins += [net.real_const(39), net.floats(2, 9, 39), net.real_const(39), net.floats(2, 39, 4)]
    y = net.graph.add(ops.SelectiveScan(softplus=True), ins)
    steep = net.graph.add(ops.SelectiveScan(softplus=True), [*ins, net.real_const(39)])
    net.out(*y.outputs, *steep.outputs)


def backwards(net: Net) -> None:
    """From the last position to the first."""
    ins = operands(net, 1, 7, 32, 16)
    start = [None, None, None, net.floats(1, 32, 16)]
    net.out(*net.graph.add(ops.SelectiveScan(True, reverse=True), [*ins, *start]).outputs)


def strided(net: Net) -> None:
    """Channels before time, and A known only at run time."""
    u, delta, z = (net.add(ops.Transpose((0, 2, 1)), net.floats(1, 24, 8)) for _ in range(3))
    a = net.add(ops.Neg(), net.add(ops.Abs(), net.floats(24, 5)))
    b, c = ops.Split(2, (5, 5)), net.floats(1, 8, 10)
    parts = net.graph.add(b, [c]).outputs
    net.out(net.add(ops.SelectiveScan(softplus=True), u, delta, a, *parts, None, z))


def extreme(net: Net) -> None:
    """States that vanish at once, that stay for 300 steps, and that grow."""
    ins = operands(net, 1, 300, 4, 4)
    rates = np.array([-1e4, -1e-4, -1e-3, 0.01], np.float32)
    ins[2] = net.const(np.broadcast_to(rates, (4, 4)).copy())
    net.out(net.add(ops.SelectiveScan(softplus=True), *ins))


def powers(net: Net) -> None:
    """One step from states of one, to which nothing is added: ``exp(delta * A)``, and softplus."""
    delta = net.add(ew.Mul(), net.floats(1, 1, 64), net.const(np.float32([12])))
    a, ones = net.const(np.full((64, 1), -1, np.float32)), net.const(np.ones((1, 1, 1), np.float32))
    zeros, start = net.const(np.zeros((1, 1, 1), np.float32)), net.const(np.ones((1, 64, 1), "f4"))
    u = net.const(np.zeros((1, 1, 64), np.float32))
    ins = [u, delta, a, zeros, ones, None, None, None, start]
    net.out(net.add(ops.SelectiveScan(), *ins), net.add(act.Softplus(), delta))


NETWORKS = {f.__name__: f for f in (bare, whole, backwards, strided, extreme, powers)}


@pytest.fixture(scope="module", params=["x86", "arm-v8", "cuda"])
def scans(request, tmp_path_factory) -> Compiled:
    return compile_all(request.param, NETWORKS, tmp_path_factory.mktemp("scans") / "out")


@pytest.mark.parametrize("name", NETWORKS)
def test_says_what_the_reference_says(scans: Compiled, name: str) -> None:
    got = scans.artifact.run(scans.feed)
    for output in scans.outputs[name]:
        want = scans.want[output]
        assert np.abs(want).max() > 0.1
        assert np.abs(got[output] - want).max() <= 1e-5 * np.abs(want).max()


def test_powers_and_softplus_are_right_at_every_size(scans: Compiled) -> None:
    got = scans.artifact.run(scans.feed)
    for output in scans.outputs["powers"]:
        want = scans.want[output].astype(np.float64)
        assert want.max() > 1e4 * want.min() > 0
        room = 5e-7 + 2e-7 * np.abs(np.log(want))
        assert (np.abs(got[output] / want - 1) <= room).all()


def test_only_float32_is_compiled() -> None:
    graph = Graph("g")
    shapes = [(1, 2, 3), (1, 2, 3), (3, 4), (1, 2, 4), (1, 2, 4)]
    ins = [graph.input(f"x{i}", TensorType("float64", s)) for i, s in enumerate(shapes)]
    graph.outputs = [graph.add(ops.SelectiveScan(), ins, names=["y"]).output]
    with pytest.raises(BackendError, match=r"'y': SelectiveScan of float64 .* cannot be compiled"):
        lower(graph, frozenset())
