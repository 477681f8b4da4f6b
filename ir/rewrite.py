"""Rewriting by patterns that are written as the expressions they match.

::

    SILU = Rule("silu", p.Mul(p.x, p.Sigmoid(p.x)), lambda m: m.make(Silu(), m["x"]))
    counts = rewrite(graph, [SILU])

``p.Name(...)`` matches an application of op ``Name``; ``p.lower`` binds any value (the same one
wherever the name stands again); ``const("c")`` binds a constant; a number matches a constant of
that value.  Operands of Add, Mul, Min and Max match in either order.  Nothing
outside the match may read a result in its middle, so that the match can go.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .graph import Graph, Node, Origin, Value
from .ops.base import Op
from .types import Array

log = logging.getLogger(__name__)
COMMUTATIVE = frozenset({"Add", "Mul", "Min", "Max"})


@dataclass(frozen=True)
class Bind:
    """Matches any value, or only constants, and binds it to a name."""

    name: str
    constant: bool = False


@dataclass(frozen=True)
class Apply:
    """Matches the first result of an op on matching operands; binds the node to ``name``."""

    op: str
    args: tuple["Pattern", ...]
    name: str = ""

    def named(self, name: str) -> "Apply":
        """The same pattern that also binds its node."""
        return Apply(self.op, self.args, name)


Pattern = Bind | Apply | float


class _Expressions:
    """``p.Relu(p.x)``: capitalised names are ops, others are variables."""

    def __getattr__(self, name: str) -> Any:
        if name[0].isupper():
            return lambda *args: Apply(name, args)
        return Bind(name)


p = _Expressions()


def const(name: str) -> Bind:
    """A pattern that binds a constant."""
    return Bind(name, constant=True)


@dataclass
class Match:
    """What a pattern matched: values by variable, nodes by name, and the graph to build in."""

    graph: Graph
    root: Node
    values: dict[str, Value] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    inner: list[Node] = field(default_factory=list)

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def array(self, name: str) -> Array:
        """The data of a bound constant."""
        data = self.values[name].data
        assert data is not None
        return data

    def scalar(self, name: str) -> float | None:
        """The number that a bound constant repeats, else None."""
        data = self.array(name)
        first = float(data.flat[0]) if data.size else None
        return first if first is not None and bool((data == data.flat[0]).all()) else None

    def make(self, op: Op, *inputs: Value | None) -> Value:
        """A new node in front of the matched one, with its origin; its first result."""
        origin = Origin(self.root.origin.source or self.root.output.name, self.root.origin.passes)
        return self.graph.add(op, inputs, origin=origin, before=self.root).output


@dataclass(frozen=True)
class Rule:
    """A rewrite: ``build`` gives what replaces the match, or None where it does not apply."""

    name: str
    pattern: Apply
    build: Callable[[Match], Value | None]


def rewrite(graph: Graph, rules: Sequence[Rule], label: str = "rewrite") -> Counter[str]:
    """Apply ``rules`` until none fires; how often each did.  ``label`` goes into origins."""
    counts: Counter[str] = Counter()
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        by_op.setdefault(rule.pattern.op, []).append(rule)
    changed = True
    while changed:
        changed = False
        for node in list(graph.nodes):
            if node.output.name in graph and graph[node.output.name] is node.output:
                fired = _fire(graph, node, by_op.get(node.op.name, ()), label)
                if fired is not None:
                    counts[fired.name] += 1
                    changed = True
        graph.prune()
    return counts


def _fire(graph: Graph, node: Node, rules: Sequence[Rule], label: str) -> Rule | None:
    for rule in rules:
        for match in matches(graph, node, rule.pattern):
            before = len(graph.nodes)
            new = rule.build(match)
            if new is None or new is node.output:
                continue
            log.debug("%s: %s at %s", label, rule.name, node.name)
            for made in graph.nodes[
                graph.index(node) - (len(graph.nodes) - before) : graph.index(node)
            ]:
                made.origin = made.origin.touched(label)
            graph.replace(node.output, new)
            graph.remove(node)
            return rule
    return None


def matches(graph: Graph, node: Node, pattern: Apply) -> Iterator[Match]:
    """All ways in which ``pattern`` matches with ``node`` at its root."""
    for values, nodes, inner in _match_node(graph, node, pattern, {}, {}, []):
        if _closed(graph, node, inner):
            yield Match(graph, node, values, nodes, inner)


def _closed(graph: Graph, root: Node, inner: list[Node]) -> bool:
    """Whether nothing outside the match reads what is made inside it."""
    own = set(map(id, inner))
    for node in inner:
        for value in () if node is root else node.outputs:
            if graph.is_output(value) or any(id(user) not in own for user in value.uses):
                return False
    return True


_State = tuple[dict[str, Value], dict[str, Node], list[Node]]


def _match_node(
    graph: Graph,
    node: Node,
    pattern: Apply,
    values: dict[str, Value],
    nodes: dict[str, Node],
    inner: list[Node],
) -> Iterator[_State]:
    if node.op.name != pattern.op or len(node.operands) < len(pattern.args):
        return
    if pattern.op in COMMUTATIVE and len(node.operands) != len(pattern.args):
        return
    if pattern.name:
        nodes = {**nodes, pattern.name: node}
    orders = [pattern.args]
    if pattern.op in COMMUTATIVE and len(pattern.args) == 2:
        orders.append(pattern.args[::-1])
    for args in orders:
        yield from _match_all(graph, node.operands, args, (values, nodes, [*inner, node]))


def _match_all(
    graph: Graph, operands: Sequence[Value], args: Sequence[Pattern], state: _State
) -> Iterator[_State]:
    if not args:
        yield state
        return
    for found in _match_value(graph, operands[0], args[0], state):
        yield from _match_all(graph, operands[1:], args[1:], found)


def _match_value(graph: Graph, value: Value, pattern: Pattern, state: _State) -> Iterator[_State]:
    values, nodes, inner = state
    if isinstance(pattern, Bind):
        bound = values.get(pattern.name)
        if (bound is None or bound is value) and (value.is_constant or not pattern.constant):
            yield {**values, pattern.name: value}, nodes, inner
    elif isinstance(pattern, Apply):
        if value.producer is not None and value is value.producer.output:
            yield from _match_node(graph, value.producer, pattern, values, nodes, inner)
    elif value.data is not None and _repeats(value.data, pattern):
        yield state


def _repeats(data: Array, number: float) -> bool:
    """Whether every element is ``number``, up to the rounding of exporters."""
    return data.size > 0 and np.allclose(data.astype(np.float64), number, rtol=1e-4, atol=1e-12)
