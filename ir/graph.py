"""Values, nodes and the graph that owns them.

All edits go through the few mutating methods of :class:`Graph`; they keep producers and uses
consistent.  Types are inferred when a node is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .errors import VerifyError
from .types import Array, TensorType, type_of

if TYPE_CHECKING:
    from .ops.base import Op


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: its name in the source file and the passes that touched it."""

    source: str = ""
    passes: tuple[str, ...] = ()

    def touched(self, pass_name: str) -> Origin:
        """This origin with one more pass in its history."""
        return self if pass_name in self.passes else Origin(self.source, (*self.passes, pass_name))


class Value:
    """An SSA value: a name, a type, its data if it is a constant, its producer and its uses."""

    __slots__ = ("data", "name", "producer", "type", "uses")

    def __init__(self, name: str, type: TensorType, data: Array | None = None) -> None:
        self.name = name
        self.type = type
        self.data = data
        self.producer: Node | None = None
        self.uses: list[Node] = []

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self.data is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The static shape."""
        return self.type.static

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Node:
    """One application of an op.  Absent optional operands are ``None``."""

    __slots__ = ("inputs", "op", "origin", "outputs")

    def __init__(self, op: Op, inputs: Sequence[Value | None], origin: Origin) -> None:
        self.op = op
        self.inputs: tuple[Value | None, ...] = tuple(inputs)
        self.outputs: tuple[Value, ...] = ()
        self.origin = origin

    @property
    def output(self) -> Value:
        """The first (usually the only) result."""
        return self.outputs[0]

    @property
    def operands(self) -> tuple[Value, ...]:
        """The operands that are present."""
        return tuple(v for v in self.inputs if v is not None)

    @property
    def name(self) -> str:
        """The name of the source node, else of the first result."""
        return self.origin.source or self.output.name

    @property
    def provenance(self) -> Origin:
        """The origin for nodes that replace this one."""
        return Origin(self.name, self.origin.passes)

    def __repr__(self) -> str:
        from .text import format_node

        return format_node(self)


@dataclass
class Graph:
    """A network: inputs, outputs, nodes in topological order, constants, recurrent state.

    ``states`` pairs an input with the output that is its next value (recurrent state, KV cache).
    """

    name: str = "graph"
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    properties: set[str] = field(default_factory=set)
    _names: dict[str, Value] = field(default_factory=dict, repr=False)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)

    # -- making ------------------------------------------------------------------------------

    def input(self, name: str, type: TensorType) -> Value:
        """Add a graph input."""
        value = self._own(Value(name, type))
        self.inputs.append(value)
        return value

    def constant(self, array: Array, name: str = "c", quant: TensorType | None = None) -> Value:
        """Add a constant; ``quant`` overrides its type (a quantized one, say)."""
        data = _contiguous(array)
        return self._own(Value(self.fresh(name), quant or type_of(data), data))

    def assign(self, constant: Value, array: Array) -> None:
        """Give a constant other data; ``VerifyError`` unless it has the same shape and dtype."""
        typed = type_of(array)
        same = (typed.dtype, typed.shape) == (constant.type.dtype, constant.type.shape)
        if not constant.is_constant or not same:
            raise VerifyError(f"{constant!r} cannot hold {typed}")
        constant.data = _contiguous(array)

    def add(
        self,
        op: Op,
        inputs: Sequence[Value | None],
        *,
        names: Sequence[str] = (),
        origin: Origin | None = None,
        before: Node | None = None,
    ) -> Node:
        """Append a node (or put it in front of ``before``) and infer the types of its results.

        Raises ``VerifyError`` with the operands' types where the op rejects them.
        """
        try:
            types = op.infer(list(inputs))
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            operands = ", ".join("none" if v is None else repr(v) for v in inputs)
            where = (origin.source if origin else "") or (names[0] if names else "?")
            raise VerifyError(f"{op.name}({operands}) at {where!r}: {error}") from error
        node = Node(op, inputs, origin or Origin())
        default = type(op).__name__.lower()
        node.outputs = tuple(
            self._own(Value(self.fresh(names[i] if i < len(names) else default), t))
            for i, t in enumerate(types)
        )
        for out in node.outputs:
            out.producer = node
        for value in node.operands:
            value.uses.append(node)
        if before is None:
            self.nodes.append(node)
        else:
            self.nodes.insert(self.index(before), node)
        return node

    # -- editing -----------------------------------------------------------------------------

    def replace(self, old: Value, new: Value) -> None:
        """Let every user of ``old``, the graph's outputs included, use ``new`` instead.

        An output of the graph keeps its name: ``new`` takes it over.
        """
        if old is new:
            return
        for node in dict.fromkeys(old.uses):
            node.inputs = tuple(new if v is old else v for v in node.inputs)
        new.uses.extend(old.uses)
        old.uses = []
        if any(v is old for v in self.outputs):
            self.outputs = [new if v is old else v for v in self.outputs]
            if not any(v is new for v in self.inputs):
                self._swap_names(old, new)

    def set_inputs(self, node: Node, inputs: Sequence[Value | None]) -> None:
        """Give ``node`` other operands of the same types."""
        for value in node.operands:
            value.uses.remove(node)
        node.inputs = tuple(inputs)
        for value in node.operands:
            value.uses.append(node)

    def remove(self, node: Node) -> None:
        """Take out a node whose results nobody uses."""
        for out in node.outputs:
            if out.uses or any(o is out for o in self.outputs):
                raise VerifyError(f"cannot remove {node!r}: %{out.name} is used")
            self._names.pop(out.name, None)
        for value in node.operands:
            value.uses.remove(node)
            self._forget(value)
        del self.nodes[self.index(node)]

    def prune(self) -> int:
        """Remove nodes and constants that no output needs; how many nodes went."""
        removed = 0
        needed = {id(v) for v in self.outputs}
        for node in reversed(list(self.nodes)):
            if any(id(o) in needed for o in node.outputs):
                needed.update(id(v) for v in node.operands)
            else:
                self.remove(node)
                removed += 1
        for name, value in list(self._names.items()):
            if value.is_constant and not value.uses and id(value) not in needed:
                del self._names[name]
        return removed

    def become(self, other: Graph) -> None:
        """Take over everything of ``other``, which must not be used any more."""
        for name, content in vars(other).items():
            setattr(self, name, content)

    def rename(self, value: Value, name: str) -> None:
        """Give ``value`` another, free name."""
        if name != value.name:
            del self._names[value.name]
            value.name = self.fresh(name)
            self._names[value.name] = value

    # -- asking ------------------------------------------------------------------------------

    def index(self, node: Node) -> int:
        """Position of ``node`` (by identity)."""
        for i, n in enumerate(self.nodes):
            if n is node:
                return i
        raise VerifyError(f"{node!r} is not in graph {self.name!r}")

    def __getitem__(self, name: str) -> Value:
        return self._names[name]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def constants(self) -> list[Value]:
        """All constants, in the order they were made."""
        return [v for v in self._names.values() if v.is_constant]

    @property
    def values(self) -> Iterator[Value]:
        """All values: inputs, constants and results."""
        return iter(self._names.values())

    def is_output(self, value: Value) -> bool:
        """Whether ``value`` is an output of the graph."""
        return any(v is value for v in self.outputs)

    def sole_use(self, value: Value) -> Node | None:
        """The only node that reads ``value`` once, else None; an output of the graph has none."""
        return value.uses[0] if len(value.uses) == 1 and not self.is_output(value) else None

    def fresh(self, name: str) -> str:
        """``name``, or ``name.1``, ``name.2``, ... if it is taken."""
        if name not in self._names:
            return name
        i = self._counts.get(name, 0) + 1
        while f"{name}.{i}" in self._names:
            i += 1
        self._counts[name] = i
        return f"{name}.{i}"

    def copy(self) -> Graph:
        """An independent copy; constant arrays and ops are shared (they are never changed)."""
        out = Graph(self.name, states=list(self.states), properties=set(self.properties))
        twin: dict[int, Value] = {}
        for value in self._names.values():
            twin[id(value)] = out._own(Value(value.name, value.type, value.data))
        out.inputs = [twin[id(v)] for v in self.inputs]
        for node in self.nodes:
            clone = Node(
                node.op, [None if v is None else twin[id(v)] for v in node.inputs], node.origin
            )
            clone.outputs = tuple(twin[id(v)] for v in node.outputs)
            for result in clone.outputs:
                result.producer = clone
            for value in clone.operands:
                value.uses.append(clone)
            out.nodes.append(clone)
        out.outputs = [twin[id(v)] for v in self.outputs]
        return out

    def __str__(self) -> str:
        from .text import format_graph

        return format_graph(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    # -- own ---------------------------------------------------------------------------------

    def _own(self, value: Value) -> Value:
        if value.name in self._names:
            raise VerifyError(f"graph {self.name!r} has two values named %{value.name}")
        self._names[value.name] = value
        return value

    def _swap_names(self, a: Value, b: Value) -> None:
        a.name, b.name = b.name, a.name
        self._names[a.name], self._names[b.name] = a, b

    def _forget(self, value: Value) -> None:
        if value.is_constant and not value.uses and not self.is_output(value):
            self._names.pop(value.name, None)


def _contiguous(array: Array) -> Array:
    array = np.asarray(array)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)  # which adds axes


def adopt_outputs(graph: Graph, values: Iterable[Value]) -> None:
    """Declare ``values`` as the outputs of a graph under construction."""
    graph.outputs = list(values)
