"""A causal network as one that takes the next few tokens and keeps keys and values as states.

::

    %k: float32[1,4,128,8]            %k: float32[1,4,1,8]
    %s = MatMul(%q, %k)          ->   %k.present = TensorScatter(%k.past, %k, %position)
                                      %s = MatMul(%q, %k.present)
                                      state %k.past -> %k.present

What says something for every position (rotary angles, learned positions, the mask's rows) is
gathered at ``%position``.  One transformation makes both graphs of a decoder: a few tokens at once
for the prompt, one for every step.  States have room for as many positions as the network had.
"""

from __future__ import annotations

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph, Node, Value
from ...ir.ops.index import Gather, Slice
from ...ir.ops.select import TensorScatter
from ...ir.ops.shape import Expand, Reshape, Transpose, Unsqueeze
from ...ir.types import Array, TensorType
from .fuse import fuse_attention
from .replay import Replay
from .share import shared
from .times import Rows, Timing, timing

POSITION = "position"


def stepped(graph: Graph, tokens: int) -> Graph:
    """``graph`` for ``tokens`` more tokens, with an input ``position: int64[tokens]`` and states.

    ``graph`` takes ``[batch, capacity]`` tokens; the result ``[batch, tokens]`` at the positions
    given, which follow one another, and the states of what came before.  Its outputs are the rows
    of ``graph``'s outputs at these positions, then the new states.  Raises ``PreconditionError``
    where the network cannot be shown to be causal, naming the node.
    """
    found = timing(graph)
    if not 1 <= tokens <= found.length:
        raise PreconditionError(f"{tokens} tokens at once do not fit into {found.length} positions")
    step = _Step(found, tokens, share=True)
    graph = step.run()
    if 2 * step.fused < len(found.cached):  # repeating heads would copy what is kept
        graph = _Step(found, tokens, share=False).run()
    return graph


class _Step(Replay):
    """Emits the network of ``tokens`` positions that look at all that were kept."""

    def __init__(self, found: Timing, tokens: int, share: bool) -> None:
        super().__init__(found, Graph(found.graph.name, properties=set(found.graph.properties)))
        self.sizes = (tokens, found.length)
        self.kept: dict[int, Value] = {}
        self.share, self.fused = share, 0

    def start(self) -> None:
        value = self.timing.graph.inputs[0]
        batch, tokens = value.shape[0], self.sizes[0]
        self.twin[id(value)] = self.out.input(value.name, value.type.with_shape((batch, tokens)))
        self.position = self.out.input(self.out.fresh(POSITION), TensorType("int64", (tokens,)))
        first = self.position
        if tokens > 1:
            first = self.out.add(Slice((0,), (1,), (0,)), [first], names=["first"]).output
        if batch > 1:
            first = self.out.add(Expand((batch,)), [first], names=["first"]).output
        self.first = first

    def constant_rows(self, data: Array, name: str, rows: Rows) -> Value:
        """The rows at the positions; all columns stay."""
        table = self.out.constant(data, name)
        if rows.query is None:
            return table
        return self.out.add(Gather(rows.query), [table, self.position], names=[f"{name}.at"]).output

    def operand(self, node: Node, index: int, value: Value | None) -> Value | None:
        """What is looked at is kept in a state."""
        made = super().operand(node, index, value)
        axis = self.timing.cached.get((id(node), index))
        if axis is None or value is None or made is None:
            return made
        if id(value) not in self.kept:
            if axis == 0:
                raise PreconditionError(
                    f"%{value.name} has no axis of samples before that of positions"
                )
            self.kept[id(value)] = self._kept(value, made, axis)
        return self.kept[id(value)]

    def _kept(self, value: Value, made: Value, axis: int) -> Value:
        """The state of a value after this step; heads that share it are repeated behind it."""
        one = shared(value) if self.share else None
        t = value.type
        if one is not None:
            root = self.twin[id(one.root)]
            made = self.out.add(Transpose(one.perm), [root]).output
            t = t.with_shape([one.root.shape[i] for i in one.perm])
        past = self.out.input(self.out.fresh(f"{value.name}.past"), t)
        keep = self.out.add(
            TensorScatter(axis), [past, made, self.first], names=[f"{value.name}.present"]
        )
        self.out.states.append((past.name, keep.output.name))
        return keep.output if one is None else self._repeated(keep.output, one.times)

    def _repeated(self, kept: Value, times: int) -> Value:
        """Every head ``times`` times beside itself, as ``fuse_attention`` knows it."""
        *lead, heads, rows, columns = kept.shape
        tall = self.out.add(Unsqueeze((len(lead) + 1,)), [kept]).output
        wide = (*lead, heads, times, rows, columns)
        tall = self.out.add(Expand(wide), [tall]).output
        return self.out.add(Reshape((*lead, heads * times, rows, columns)), [tall]).output

    def finish(self) -> None:
        self.out.outputs += [self.out[after] for _, after in self.out.states]
        self.fused = fuse_attention(self.out, self.position)


def empty_states(graph: Graph) -> dict[str, Array]:
    """The states before the first token, by the names of their inputs."""
    values = {v.name: v for v in graph.inputs}
    return {
        before: np.zeros(values[before].shape, values[before].type.dtype)
        for before, _ in graph.states
    }
