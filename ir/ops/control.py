"""Ops that hold graphs.

The operands of an inner graph come first; what it captures from outside are explicit operands too,
after them, and inputs of the inner graph under names of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Value
from ..types import Array, Dim, TensorType, numpy_dtype
from .base import Op, Operands, given, operand, optional


class Control(Op):
    """An op that holds graphs."""

    @property
    def graphs(self) -> dict[str, Graph]:
        """The inner graphs by field."""
        return {name: g for name, g in vars(self).items() if isinstance(g, Graph)}

    def enter(self, ins: Operands) -> list[TensorType]:
        """The types of what the inner graphs' inputs stand for, first of all iterations."""
        raise NotImplementedError(self.name)


@dataclass(frozen=True)
class If(Control):
    """One of two graphs.  Operands: condition (bool), then the captures, inputs of both graphs.

    A dimension in which the branches differ is a symbol of the result.
    """

    then_branch: Graph = field(default_factory=Graph)
    else_branch: Graph = field(default_factory=Graph)

    def infer(self, ins: Operands) -> list[TensorType]:
        if operand(ins, 0).type.dtype != "bool":
            raise ValueError(f"the condition {operand(ins, 0)!r} is not a bool")
        for branch in (self.then_branch, self.else_branch):
            check_inputs(branch, self.enter(ins))
        pairs = list(zip(self.then_branch.outputs, self.else_branch.outputs, strict=True))
        return [_either(a, b, self.then_branch.name) for a, b in pairs]

    def enter(self, ins: Operands) -> list[TensorType]:
        return [operand(ins, i).type for i in range(1, len(ins))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        taken = self.then_branch if bool(given(ins).reshape(())) else self.else_branch
        return run(taken, ins[1:])


def _either(a: Value, b: Value, scope: str) -> TensorType:
    """A type that both branches' results have."""
    if (a.type.dtype, a.type.rank) != (b.type.dtype, b.type.rank):
        raise ValueError(f"the branches give {a!r} and {b!r}")
    pairs = enumerate(zip(a.type.shape, b.type.shape, strict=True))
    return a.type.with_shape([d if d == e else symbol(scope, a.name, i) for i, (d, e) in pairs])


@dataclass(frozen=True)
class Loop(Control):
    """A graph that runs again and again.

    Operands: trip count (int64)?, condition (bool)?, ``carried`` initial values, captures.  The
    body takes iteration number, condition, carried values and captures; it gives the condition for
    the next iteration, the carried values and what each iteration yields.  Results: the final
    carried values, then the yields, stacked on axis 0.
    """

    body: Graph = field(default_factory=Graph)
    carried: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        check_inputs(self.body, self.enter(ins))
        check_carried(self.body, 2, 1, self.carried)
        trips = symbol(self.body.name, "trips")
        steps = [v.type for v in self.body.outputs[1 + self.carried :]]
        finals = [v.type for v in self.body.inputs[2 : 2 + self.carried]]
        return [*finals, *(TensorType(t.dtype, (trips, *t.shape)) for t in steps)]

    def enter(self, ins: Operands) -> list[TensorType]:
        flags = [TensorType("int64", ()), TensorType("bool", ())]
        return [*flags, *(operand(ins, i).type for i in range(2, len(ins)))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        trips, condition = optional(ins, 0), optional(ins, 1)
        state = [given(ins, 2 + i) for i in range(self.carried)]
        captures = ins[2 + self.carried :]
        going = condition is None or bool(condition.reshape(()))
        steps: list[list[Array]] = []
        while going and (trips is None or len(steps) < int(trips.reshape(()))):
            flags = [np.asarray(len(steps), np.int64), np.asarray(going)]
            results = run(self.body, [*flags, *state, *captures])
            going = bool(results[0].reshape(()))
            state = results[1 : 1 + self.carried]
            steps.append(results[1 + self.carried :])
        return [*state, *stack(steps, self.body.outputs[1 + self.carried :])]


@dataclass(frozen=True)
class Scan(Control):
    """A graph that runs once per element of the scanned operands, along their axis 0.

    Operands: ``carried`` initial states, ``scanned`` operands, captures.  Results: the final
    states, then what each step yields, stacked on axis 0.
    """

    body: Graph = field(default_factory=Graph)
    carried: int = 0
    scanned: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        check_inputs(self.body, self.enter(ins))
        check_carried(self.body, 0, 0, self.carried)
        length = operand(ins, self.carried).type.shape[0]
        finals = [v.type for v in self.body.inputs[: self.carried]]
        steps = [v.type for v in self.body.outputs[self.carried :]]
        return [*finals, *(TensorType(t.dtype, (length, *t.shape)) for t in steps)]

    def enter(self, ins: Operands) -> list[TensorType]:
        types = [operand(ins, i).type for i in range(len(ins))]
        for i in range(self.carried, self.carried + self.scanned):
            if not types[i].rank:
                raise ValueError(f"cannot scan the scalar {operand(ins, i)!r}")
            types[i] = TensorType(types[i].dtype, types[i].shape[1:])
        return types

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        end = self.carried + self.scanned
        state = [given(ins, i) for i in range(self.carried)]
        scanned = [given(ins, i) for i in range(self.carried, end)]
        steps: list[list[Array]] = []
        for i in range(len(scanned[0])):
            elements = [np.asarray(a[i]) for a in scanned]
            results = run(self.body, [*state, *elements, *ins[end:]])
            state = results[: self.carried]
            steps.append(results[self.carried :])
        return [*state, *stack(steps, self.body.outputs[self.carried :])]


def symbol(scope: str, name: str, axis: int | None = None) -> str:
    """A dimension that only the inner graph ``scope`` decides."""
    text = f"{scope}.{name}" if axis is None else f"{scope}.{name}.{axis}"
    return "".join(c if c.isalnum() or c in "._" else "_" for c in text)


def accepts(formal: TensorType, actual: TensorType) -> bool:
    """Whether a value of type ``actual`` may stand for an input of type ``formal``."""
    same = formal.dtype == actual.dtype and formal.rank == actual.rank
    pairs = zip(formal.shape, actual.shape, strict=False)
    return same and all(isinstance(f, str) or f == a or isinstance(a, str) for f, a in pairs)


def check_inputs(graph: Graph, types: Sequence[TensorType]) -> None:
    """``ValueError`` unless the inputs of an inner graph can take values of ``types``."""
    if len(types) != len(graph.inputs):
        raise ValueError(f"graph {graph.name!r} takes {len(graph.inputs)} values, not {len(types)}")
    for formal, actual in zip(graph.inputs, types, strict=True):
        if not accepts(formal.type, actual):
            raise ValueError(f"a {actual} cannot be input {formal!r} of graph {graph.name!r}")


def check_carried(body: Graph, first_input: int, first_output: int, count: int) -> None:
    """``ValueError`` unless what a body carries on has the type that it takes."""
    for i in range(count):
        taken, given_ = body.inputs[first_input + i], body.outputs[first_output + i]
        if not accepts(taken.type, given_.type):
            raise ValueError(f"the state {taken!r} changes its type: {given_!r}")


def run(graph: Graph, arrays: Sequence[Array | None]) -> list[Array]:
    """The outputs of an inner graph for its inputs."""
    from ..evaluate import evaluate

    feed = {v.name: a for v, a in zip(graph.inputs, arrays, strict=True) if a is not None}
    found = evaluate(graph, feed)
    return [found[v.name] for v in graph.outputs]


def stack(steps: Sequence[Sequence[Array]], outputs: Sequence[Value]) -> list[Array]:
    """What the steps yield, on a new axis 0; without steps there is nothing on it."""
    if steps:
        return [np.stack([s[i] for s in steps]) for i in range(len(outputs))]
    shapes = [(0, *map(_or_zero, v.type.shape)) for v in outputs]
    return [np.zeros(s, numpy_dtype(v.type.dtype)) for s, v in zip(shapes, outputs, strict=True)]


def _or_zero(d: Dim) -> int:
    return d if isinstance(d, int) else 0
