"""If, Loop and Scan as compiled code: the values of the reference on cpus and emulated devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from compiled import compile_all
from networks import Net

from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.build import build
from qc.backends.codegen.lower import lower
from qc.backends.codegen.regions import Region, held, nested, times, unrolled
from qc.ir import Graph, Value, ops
from qc.ir.errors import BackendError
from qc.ir.types import TensorType
from qc.targets import load

Make = Callable[[Graph, Sequence[Value]], Sequence[Value]]
Type = TensorType


def inner(make: Make, *types: Type) -> Graph:
    """A graph of inputs of these types and what ``make`` returns for them."""
    graph = Graph("inner")
    ins = [graph.input(f"i{k}", t) for k, t in enumerate(types)]
    graph.outputs = list(make(graph, ins))
    return graph


def add(graph: Graph, op: ops.Op, *ins: Value) -> Value:
    return graph.add(op, ins).output


def real(*shape: int) -> Type:
    return Type("float32", shape)


def number(graph: Graph, value: float) -> Value:
    return graph.constant(np.asarray(value, np.float32))


COUNT, FLAG = Type("int64", ()), Type("bool", ())


def scan(n: Net) -> None:
    """A linear recurrence with a product, whose states and steps are both read."""

    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        state, element, gain, weight = v
        moved = add(g, ops.MatMul(), state, weight)
        new = add(g, ops.Tanh(), add(g, ops.Add(), moved, element))
        return [new, add(g, ops.Mul(), new, gain)]

    start, x = n.floats(1, 8), n.floats(20, 1, 8)
    gain, weight = n.floats(8), n.const(n.rng.normal(0, 0.4, (8, 8)).astype(np.float32))
    op = ops.Scan(inner(body, real(1, 8), real(1, 8), real(8), real(8, 8)), 1, 1)
    last, every = n.graph.add(op, [start, x, gain, weight]).outputs
    n.out(last, every, n.add(ops.Relu(), every))


def swapped_states(n: Net) -> None:
    """Each state becomes another one, so none may be overwritten too early."""

    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        a, b, c, element = v
        return [b, c, add(g, ops.Sub(), a, element), a]

    ins = [n.floats(3, 2), n.floats(3, 2), n.floats(3, 2), n.floats(5, 3, 2)]
    op = ops.Scan(inner(body, real(3, 2), real(3, 2), real(3, 2), real(3, 2)), 3, 1)
    n.out(*n.graph.add(op, ins).outputs)


def two_scanned_one_backwards(n: Net) -> None:
    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.Mul(), v[0], v[1])]

    x, y = n.floats(4, 3, 2), n.floats(3, 4, 2)
    back = n.add(ops.Slice((-1,), (-(2**63),), (0,), (-1,)), x)
    turned = n.add(ops.Transpose((1, 0, 2)), y)
    n.out(n.add(ops.Scan(inner(body, real(3, 2), real(3, 2)), 0, 2), back, turned))


def branches(n: Net) -> None:
    """Both of them, by opposite conditions; one does nothing but hand on what it captures."""

    def first(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.MatMul(), v[0], v[1]), v[1]]

    def second(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.Neg(), v[1]), add(g, ops.Exp(), add(g, ops.Neg(), v[0]))]

    x, w = n.floats(4, 4), n.floats(4, 4)
    total = n.add(ops.ReduceMax(None, False), x)
    op = ops.If(inner(first, real(4, 4), real(4, 4)), inner(second, real(4, 4), real(4, 4)))
    for condition in (
        n.add(ops.Less(), total, n.const(np.asarray(1e9, np.float32))),
        n.add(ops.Greater(), total, n.const(np.asarray(1e9, np.float32))),
    ):
        n.out(*n.graph.add(op, [condition, x, w]).outputs)


def a_loop_that_ends_itself(n: Net) -> None:
    """Doubles until the greatest element passes a limit; counts the trips on the way."""

    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        count, _, state, _, limit = v
        twice = add(g, ops.Mul(), state, number(g, 2.0))
        greatest = add(g, ops.ReduceMax(None, False), add(g, ops.Abs(), twice))
        seen = add(g, ops.Cast("float32"), count)
        return [add(g, ops.Less(), greatest, limit), twice, seen]

    x, limit = n.floats(3), n.const(np.asarray(300.0, np.float32))
    never = n.add(ops.Less(), n.add(ops.ReduceMax(None, False), x), n.const(np.float32(-1e9)))
    start = n.const(np.asarray(-1.0, np.float32))
    types = (COUNT, FLAG, real(3), real(), real())
    op = ops.Loop(inner(body, *types), 2)
    trips = n.const(np.asarray(50, np.int64))
    n.out(*n.graph.add(op, [trips, None, x, start, limit]).outputs)
    n.out(*n.graph.add(op, [trips, never, x, start, limit]).outputs)


def a_branch_in_a_scan_in_a_scan(n: Net) -> None:
    def keep(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.Add(), v[0], v[1])]

    def drop(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.Mul(), v[0], number(g, 0.5))]

    branch = ops.If(inner(keep, real(2), real(2)), inner(drop, real(2), real(2)))

    def row(g: Graph, v: Sequence[Value]) -> list[Value]:
        state, element, bias = v
        total = add(g, ops.ReduceSum(None, False), element)
        condition = add(g, ops.Greater(), total, number(g, 0.0))
        new = add(g, branch, condition, state, add(g, ops.Add(), element, bias))
        return [new, add(g, ops.Neg(), new)]

    rows = ops.Scan(inner(row, real(2), real(2), real(2)), 1, 1)

    def outer(g: Graph, v: Sequence[Value]) -> list[Value]:
        bias = add(g, ops.Exp(), v[2])
        return list(g.add(rows, [v[0], v[1], bias]).outputs)

    op = ops.Scan(inner(outer, real(2), real(6, 2), real(2)), 1, 1)
    n.out(*n.graph.add(op, [n.floats(2), n.floats(3, 6, 2), n.floats(2)]).outputs)


def images_in_a_scan(n: Net) -> None:
    """Padded convolutions inside, on what is captured and on the element."""
    weights = n.rng.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32)

    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        weight = g.constant(weights)
        image = add(g, ops.Conv(pads=(1, 1, 1, 1)), v[1], weight)
        still = add(g, ops.Conv(pads=(1, 1, 1, 1)), v[2], weight)
        return [add(g, ops.Add(), add(g, ops.Relu(), image), v[0]), still]

    shape = real(1, 3, 5, 5)
    op = ops.Scan(inner(body, shape, shape, shape), 1, 1)
    ins = [n.floats(*shape.static), n.floats(4, *shape.static), n.floats(*shape.static)]
    last, every = n.graph.add(op, ins).outputs
    n.out(n.add(ops.Relu(), last), every)


DATA_DECIDE = {
    "branches": branches,
    "a loop that ends itself": a_loop_that_ends_itself,
    "a branch in a scan in a scan": a_branch_in_a_scan_in_a_scan,
}
COUNTED = {
    "scan": scan,
    "swapped states": swapped_states,
    "two scanned, one backwards": two_scanned_one_backwards,
    "images in a scan": images_in_a_scan,
}


SLOW = [pytest.param(t, marks=pytest.mark.slow) for t in ("arm-v8", "arm-v7")]


@pytest.mark.parametrize("target", ["x86", "cuda", *SLOW])
def test_the_values_of_the_reference(target: str, tmp_path: Path) -> None:
    networks = COUNTED if target == "cuda" else {**COUNTED, **DATA_DECIDE}
    made = compile_all(target, networks, tmp_path / "out")
    for _ in range(2):  # nothing is left over from the first run
        got = made.artifact.run(made.feed)
        for name, names in made.outputs.items():
            for key in names:
                want = made.want[key]
                np.testing.assert_allclose(got[key], want, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("alone", [-1.0, 3e-8])
def test_threads_that_share_calls_give_the_same(alone: float, tmp_path: Path) -> None:
    """All calls split, or the longer ones: each thread goes around loops, looks at conditions."""
    made = compile_all("x86", {**COUNTED, **DATA_DECIDE}, tmp_path / "out", alone)
    together = Artifact.load(made.path, threads=2)
    want = made.artifact.run(made.feed)
    for _ in range(50):
        for name, got in together.run(made.feed).items():
            np.testing.assert_array_equal(got, want[name], err_msg=name)


def refusal(network: Callable[[Net], None], target: str, path: Path) -> str:
    net = Net()
    network(net)
    with pytest.raises(BackendError) as caught:
        build(net.graph, load(target), path / "out")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_data_decide_is_refused_for_a_device(tmp_path: Path) -> None:
    message = refusal(branches, "cuda", tmp_path)
    assert message.startswith("node 'matmul'")
    assert "what data decide cannot run on a device" in message


@pytest.mark.parametrize("trips", [None, 1 << 40])
def test_a_loop_without_bound_is_refused(trips: int | None, tmp_path: Path) -> None:
    def network(n: Net) -> None:
        def body(g: Graph, v: Sequence[Value]) -> list[Value]:
            return [add(g, ops.Less(), v[2], number(g, 9.0)), add(g, ops.Exp(), v[2])]

        bound = None if trips is None else n.const(np.asarray(trips, np.int64))
        op = ops.Loop(inner(body, COUNT, FLAG, real()), 1)
        n.out(*n.graph.add(op, [bound, None, n.floats()]).outputs)

    message = refusal(network, "host", tmp_path)
    assert message.startswith("node 'loop': a Loop without bound cannot be compiled; give it")


def test_results_whose_shape_data_decide_are_refused(tmp_path: Path) -> None:
    def network(n: Net) -> None:
        def body(g: Graph, v: Sequence[Value]) -> list[Value]:
            return [add(g, ops.Less(), v[2], number(g, 9.0)), add(g, ops.Exp(), v[2]), v[2]]

        op = ops.Loop(inner(body, COUNT, FLAG, real()), 1)
        n.out(*n.graph.add(op, [n.const(np.asarray(4)), None, n.floats()]).outputs[:1])

    assert (
        "Loop of %loop.1, float32[inner.trips], cannot be compiled: its shape is known at"
        in refusal(network, "host", tmp_path)
    )


# -- regions -------------------------------------------------------------------------------------


def test_regions_nest() -> None:
    outer, branch, other = Region(1, 6, 3), Region(1, 6), Region(7, 8, 2)
    tree = nested([outer, branch, Region(3, 3), Region(4, 6, 5), other], 9)
    assert [t.region for t in tree.inner] == [outer, other]
    assert tree.inner[0].inner[0].region is branch
    assert [t.region.first for t in tree.inner[0].inner[0].inner] == [4]
    assert times([outer, branch, Region(4, 6, 5), other], 9) == [1, 3, 3, 3, 15, 15, 1, 2, 1]


@pytest.mark.parametrize(
    ("span", "kept"),
    [
        ((0, 1), (0, 1)),  # before the loop
        ((3, 4), (3, 4)),  # of one iteration
        ((0, 3), (0, 7)),  # read again in the next iteration
        ((4, 9), (2, 9)),  # written again in the next iteration
        ((0, 9), (0, 9)),
        ((3, 6), (3, 6)),  # in the outer loop's iteration, before and in the inner loop
    ],
)
def test_memory_is_held_while_a_loop_goes_around(span, kept) -> None:
    assert held(span, [Region(2, 8, 4), Region(5, 7, 3)]) == kept
    assert held(span, [Region(2, 8, 1)]) == span


def test_loops_unroll() -> None:
    net = Net()
    a_branch_free_loop(net)
    program = lower(net.graph, load("x86").features)
    calls = unrolled(program.calls, program.regions)
    assert len(calls) == sum(times(program.regions, len(program.calls)))
    steps = [p.step for c in program.calls for p in c.pointers if p.step]
    assert steps == [4 * 6, 4 * 6]
    moved = [c.pointers[0].offset for c in calls if c.pointers[0].buffer.name == "x0"]
    assert moved == [0, 24, 48]


def a_branch_free_loop(n: Net) -> None:
    def body(g: Graph, v: Sequence[Value]) -> list[Value]:
        return [add(g, ops.Exp(), v[0])]

    n.out(n.add(ops.Scan(inner(body, real(6)), 0, 1), n.floats(3, 6)))
