"""The selective scan is recovered from every way to write it, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, Value, evaluate, ops, verify
from qc.ir.types import TensorType
from qc.passes import Canonicalize, Context

CHANNELS, STATES = 6, 4


class Parts(Builder):
    """Operands of a scan, made from an input by products; float64, where nothing is hidden."""

    def __init__(self, batch: int = 2, length: int = 5) -> None:
        super().__init__((batch, length, 3), dtype="float64")
        self.batch, self.length = batch, length
        self.u, self.z, self.raw = (self.made(CHANNELS) for _ in range(3))
        self.b, self.c = self.made(STATES), self.made(STATES)
        self.delta = self.op("Softplus", self.raw)
        self.a = self.const(-self.rng.uniform(0.1, 2, (CHANNELS, STATES)))
        self.d = self.normal(CHANNELS)

    def made(self, width: int) -> Value:
        return self.op("MatMul", self.x, self.normal(3, width, scale=1.0))

    def wide(self, value: Value, *axes: int) -> Value:
        return self.op("Unsqueeze", value, axes=axes)

    def decay(self) -> Value:
        """``[batch, length, channels, states]``."""
        return self.op("Exp", self.op("Mul", self.wide(self.delta, 3), self.a))

    def added(self) -> Value:
        moved = self.op("Mul", self.delta, self.u)
        return self.op("Mul", self.wide(moved, 3), self.wide(self.b, 2))

    def at(self, value: Value, t: int) -> Value:
        """One position of axis 1, without the axis."""
        cut = self.op("Slice", value, starts=(t,), ends=(t + 1,), axes=(1,))
        return self.op("Squeeze", cut, axes=(1,))

    def window(self, value: Value, start: int, end: int) -> Value:
        return self.op("Slice", value, starts=(start,), ends=(end,), axes=(1,))

    def zeros(self) -> Value:
        return self.const(np.zeros((self.batch, CHANNELS, STATES)))


def read(p: Parts, state: Value, t: int, form: str) -> Value:
    """``y`` of one step."""
    c = p.at(p.c, t)
    if form == "product":
        return p.op("Squeeze", p.op("MatMul", state, p.wide(c, 2)), axes=(2,))
    return p.op("ReduceSum", p.op("Mul", state, p.wide(c, 1)), axes=(2,), keepdims=False)


def unrolled(p: Parts, form: str = "", order: list[int] | None = None) -> Value:
    """Step by step, everything cut out of whole tensors (as Hugging Face's mixer does)."""
    decay, added = p.decay(), p.added()
    state, steps = p.zeros(), {}
    for t in order or range(p.length):
        state = p.op("Add", p.op("Mul", p.at(decay, t), state), p.at(added, t))
        steps[t] = read(p, state, t, form)
    axis = 2 if form == "channels first" else 1
    parts = [p.wide(steps[t], axis) for t in range(p.length)]
    return p.op("Concat", *parts, axis=axis)


def stepwise(p: Parts) -> Value:
    """Step by step, the operands cut first."""
    state, steps = p.zeros(), []
    for t in range(p.length):
        delta = p.at(p.delta, t)
        decay = p.op("Exp", p.op("Mul", p.a, p.wide(delta, 2)))
        row = p.wide(p.at(p.b, t), 1)
        moved = p.op("Mul", row, p.wide(p.op("Mul", p.at(p.u, t), delta), 2))
        state = p.op("Add", moved, p.op("Mul", state, decay))
        steps.append(p.wide(read(p, state, t, ""), 1))
    return p.op("Concat", *steps, axis=1)


def doubled(p: Parts, skip: int = 0, lost: bool = False) -> Value:
    """In log2(length) parallel steps; ``skip`` leaves a level out, ``lost`` the last ones."""
    a, b, k = p.decay(), p.added(), 1
    while k < p.length and not (lost and 2 * k >= p.length):
        late, n = p.window(a, k, p.length), p.length
        if k != skip:
            moved = p.op("Mul", late, p.window(b, 0, n - k))
            tail = p.op("Add", moved, p.window(b, k, n))
            b = p.op("Concat", p.window(b, 0, k), tail, axis=1)
        a = p.op("Concat", p.window(a, 0, k), p.op("Mul", late, p.window(a, 0, n - k)), axis=1)
        k *= 2
    return p.op("Squeeze", p.op("MatMul", b, p.wide(p.c, 3)), axes=(3,))


def scanned(p: Parts, start: Value | None = None, last: bool = False) -> Value:
    """An ONNX Scan over time."""
    body = Graph("body")
    shapes = [(CHANNELS, STATES), (CHANNELS,), (CHANNELS,), (STATES,), (STATES,)]
    types = [TensorType("float64", (p.batch, *s)) for s in shapes]
    h, delta, u, b, c = (body.input(n, t) for n, t in zip("hdubc", types, strict=True))
    a = body.constant(np.asarray(p.a.data), "a")

    def op(name: str, *ins: Value, **attributes: object) -> Value:
        return body.add(ops.OPS[name](**attributes), ins).output

    decay = op("Exp", op("Mul", op("Unsqueeze", delta, axes=(-1,)), a))
    moved = op("Unsqueeze", op("Mul", delta, u), axes=(-1,))
    added = op("Mul", moved, op("Unsqueeze", b, axes=(1,)))
    state = op("Add", op("Mul", decay, h), added)
    y = op("ReduceSum", op("Mul", state, op("Unsqueeze", c, axes=(1,))), axes=(-1,), keepdims=False)
    body.outputs = [state, y]
    timed = [p.op("Transpose", v, perm=(1, 0, 2)) for v in (p.delta, p.u, p.b, p.c)]
    node = p.graph.add(ops.Scan(body, 1, 4), [start or p.zeros(), *timed])
    if last:
        return node.outputs[0]
    return p.op("Transpose", node.outputs[1], perm=(1, 0, 2))


FORMS = {
    "whole tensors": lambda p: unrolled(p),
    "product": lambda p: unrolled(p, "product"),
    "channels first": lambda p: p.op("Transpose", unrolled(p, "channels first"), perm=(0, 2, 1)),
    "backwards": lambda p: unrolled(p, order=[*range(p.length)][::-1]),
    "stepwise": stepwise,
    "doubled": doubled,
    "scan": scanned,
    "last state": lambda p: scanned(p, last=True),
}


def canonical(p: Parts, *outputs: Value) -> list[ops.SelectiveScan]:
    """The scans of the canonical graph, which computes the same."""
    graph = p.done(*outputs)
    feed = {"x": p.rng.normal(size=p.x.shape)}
    before = evaluate(graph, feed)
    Canonicalize().apply(graph, Context())
    verify(graph)
    for name, array in evaluate(graph, feed).items():
        np.testing.assert_allclose(array, before[name], rtol=1e-9, atol=1e-9)
    again = str(graph)
    Canonicalize().apply(graph, Context())
    assert str(graph) == again
    return [n.op for n in graph.nodes if isinstance(n.op, ops.SelectiveScan)]


def left(p: Parts) -> set[str]:
    """The ops of the canonical graph."""
    return {n.op.name for n in p.graph.nodes}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_recovered(form: str, batch: int) -> None:
    p = Parts(batch)
    found = canonical(p, FORMS[form](p))
    assert found == [ops.SelectiveScan(softplus=True, reverse=form == "backwards")]
    assert left(p) == {"MatMul", "SelectiveScan"}


@pytest.mark.parametrize("length", [2, 3, 4, 7, 8, 9])
def test_any_length_in_parallel_steps(length: int) -> None:
    p = Parts(length=length)
    assert canonical(p, doubled(p)) == [ops.SelectiveScan(softplus=True)]
    assert left(p) == {"MatMul", "SelectiveScan"}


def test_an_initial_state_is_kept() -> None:
    p = Parts()
    start = p.op("Reshape", p.op("MatMul", p.x, p.normal(3, 24)), shape=(2, 5, 24))
    start = p.op("Reshape", p.at(start, 0), shape=(2, CHANNELS, STATES))
    assert canonical(p, scanned(p, start)) == [ops.SelectiveScan(softplus=True)]
    (node,) = (n for n in p.graph.nodes if isinstance(n.op, ops.SelectiveScan))
    assert len(node.inputs) == 9


@pytest.mark.parametrize("form", ["stepwise", "doubled", "scan"])
@pytest.mark.parametrize("order", ["skip first", "skip last", "without skip"])
def test_skip_gate_and_bias_go_in(form: str, order: str) -> None:
    p = Parts()
    bias = p.normal(CHANNELS)
    p.delta = p.op("Softplus", p.op("Add", bias, p.op("Neg", p.raw)))
    y, skip = FORMS[form](p), p.op("Mul", p.d, p.u)
    if order != "without skip":
        y = p.op("Add", *((y, skip) if order == "skip last" else (skip, y)))
    y = p.op("Mul", p.op("Mul", p.z, p.op("Sigmoid", p.z)), y)
    assert canonical(p, y) == [ops.SelectiveScan(softplus=True)]
    assert left(p) == {"MatMul", "Neg", "SelectiveScan"}


def test_a_bias_stays_with_its_layer() -> None:
    p = Parts()
    p.delta = p.op("Softplus", p.op("Add", p.normal(CHANNELS), p.raw))
    assert canonical(p, doubled(p)) == [ops.SelectiveScan(softplus=True)]
    assert left(p) == {"Gemm", "MatMul", "SelectiveScan"}


def test_channels_first_around_the_scan() -> None:
    """Skip and gate where the channels stand before time, as in Hugging Face's mixer."""
    p = Parts()
    y = unrolled(p, "channels first")
    u, z = (p.op("Transpose", v, perm=(0, 2, 1)) for v in (p.u, p.z))
    y = p.op("Add", y, p.op("Mul", u, p.const(np.asarray(p.d.data)[None, :, None])))
    y = p.op("Mul", y, p.op("Silu", z))
    assert canonical(p, p.op("Transpose", y, perm=(0, 2, 1))) == [ops.SelectiveScan(softplus=True)]
    assert left(p) == {"MatMul", "SelectiveScan"}


def test_the_last_state_comes_along() -> None:
    p = Parts()
    y = scanned(p)
    node = y.producer.operands[0].producer
    gated = p.op("Mul", p.op("Add", y, p.op("Mul", p.u, p.d)), p.op("Silu", p.z))
    assert canonical(p, gated, node.outputs[0]) == [ops.SelectiveScan(softplus=True)]
    assert left(p) == {"MatMul", "SelectiveScan"}


def time_in_a(p: Parts) -> Value:
    p.a = p.const(-p.rng.uniform(0.1, 2, (p.length, CHANNELS, STATES)))
    return unrolled(p)


def other_delta(p: Parts) -> Value:
    p.u = p.op("Mul", p.u, p.op("Reciprocal", p.delta))
    decay = p.decay()
    p.delta = p.op("Softplus", p.op("Neg", p.raw))
    p.decay = lambda: decay  # type: ignore[method-assign]
    return unrolled(p)


def swapped_reads(p: Parts) -> Value:
    p.at, plain = (lambda v, t: plain(v, t if v is not p.c else p.length - 1 - t)), p.at  # type: ignore[method-assign]
    return unrolled(p)


REFUSED = {
    "states out of order": lambda p: unrolled(p, order=[0, 2, 1, 3, 4]),
    "a step twice": lambda p: unrolled(p, order=[0, 1, 1, 2, 3, 4]),
    "a changes with time": time_in_a,
    "another delta adds": other_delta,
    "read by another position": swapped_reads,
    "a level is missing": lambda p: doubled(p, skip=2),
    "the last level is missing": lambda p: doubled(p, lost=True),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_selective_scan_stays(form: str) -> None:
    p = Parts()
    assert canonical(p, REFUSED[form](p)) == []


@pytest.mark.parametrize("form", ["gate", "skip"])
def test_parts_of_other_tensors_stay_outside(form: str) -> None:
    p = Parts()
    y, other = stepwise(p), p.made(CHANNELS)
    if form == "gate":
        y = p.op("Mul", y, p.op("Tanh", p.z))
    else:
        y = p.op("Add", y, p.op("Mul", other, p.d))
    assert canonical(p, y) == [ops.SelectiveScan(softplus=True)]
    assert "Mul" in left(p)


def test_softplus_with_a_threshold() -> None:
    b = Builder((2, 8))
    twenty, fifteen = (b.const([v]) for v in (20.0, 15.0))
    both = [
        b.op("Where", b.op("Greater", b.x, c), b.x, b.op("Softplus", b.x))
        for c in (twenty, fifteen)
    ]
    graph = b.done(*both)
    feed = {"x": np.linspace(-40, 40, 16, dtype=np.float32).reshape(2, 8)}
    before = evaluate(graph, feed)
    Canonicalize().apply(graph, Context())
    assert [n.op.name for n in graph.nodes].count("Where") == 1
    for name, array in evaluate(graph, feed).items():
        np.testing.assert_array_equal(array, before[name])
