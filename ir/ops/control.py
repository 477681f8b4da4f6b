"""Ops that hold graphs.  They have their place in the data structure; they are not evaluated yet.

The operands of an inner graph come first; what it captures from outside are explicit operands too.
"""

from dataclasses import dataclass, field

from ..graph import Graph
from ..types import TensorType
from .base import Op, Operands, operand


def _same_types(a: Graph, b: Graph) -> bool:
    return [v.type for v in a.outputs] == [v.type for v in b.outputs]


@dataclass(frozen=True)
class If(Op):
    """One of two graphs.  Operands: condition (bool), then the captures, inputs of both graphs."""

    then_branch: Graph = field(default_factory=Graph)
    else_branch: Graph = field(default_factory=Graph)

    def infer(self, ins: Operands) -> list[TensorType]:
        if operand(ins, 0).type.dtype != "bool" or not _same_types(
            self.then_branch, self.else_branch
        ):
            raise ValueError("If takes a bool and two graphs with results of the same types")
        return [v.type for v in self.then_branch.outputs]


@dataclass(frozen=True)
class Loop(Op):
    """A graph that runs again and again.

    Operands: trip count, condition, ``carried`` initial values, captures.  Results: the final
    carried values, then what each iteration yields, stacked.
    """

    body: Graph = field(default_factory=Graph)
    carried: int = 0

    def infer(self, ins: Operands) -> list[TensorType]:
        finals = [operand(ins, 2 + i).type for i in range(self.carried)]
        steps = [v.type for v in self.body.outputs[1 + self.carried :]]
        return [*finals, *(TensorType(t.dtype, ("trips", *t.shape)) for t in steps)]


@dataclass(frozen=True)
class Scan(Op):
    """A graph that runs once per element of the scanned operands.

    Operands: ``carried`` initial states, scanned operands, captures.  Results: the final states,
    then what each step yields, stacked on axis 0.
    """

    body: Graph = field(default_factory=Graph)
    carried: int = 0
    scanned: int = 1

    def infer(self, ins: Operands) -> list[TensorType]:
        finals = [operand(ins, i).type for i in range(self.carried)]
        length = operand(ins, self.carried).type.shape[0]
        steps = [v.type for v in self.body.outputs[self.carried :]]
        return [*finals, *(TensorType(t.dtype, (length, *t.shape)) for t in steps)]
