"""Building a graph with shape arithmetic folded away.

A :class:`Builder` adds nodes like ``Graph.add``, but integers and bools that are known become
constants, and operands that say a shape become attributes.  Of a shape with symbols it knows the
elements (numbers and symbols mixed); so ``Reshape(x, Concat(Shape(x)[0:1], [-1]))`` needs no shape
at run time.  Float expressions are never folded, unless an op needs their value to know its own
type.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .counted import counted, trips_of
from .graph import Graph, Node, Origin, Value
from .ops import base
from .ops.control import Loop
from .ops.dims import plus, product, quotient
from .ops.elementwise import Add, Cast, Div, Identity, Max, Min, Mul, Sub, Where
from .ops.index import Gather, Slice
from .ops.logic import Equal
from .ops.quantize import Dequantize, DynamicQuantize, Quantize
from .ops.reduce import ReduceProd
from .ops.shape import (
    Concat,
    ConstantOfShape,
    Expand,
    Reshape,
    Shape,
    Size,
    Split,
    Squeeze,
    Transpose,
    Unsqueeze,
)  # fmt: skip
from .resolve import resolve
from .types import Array, Dim, numpy_dtype

_MOVES = (Gather, Slice, Concat, Split, Squeeze, Unsqueeze, Reshape, Transpose, Expand, Identity)
_KEEP = (Quantize, Dequantize, DynamicQuantize)
_MANY = 1 << 24
_FEW = 256
_SYMBOLIC = np.dtype(object)


class Builder:
    """Adds nodes to ``graph`` and folds what is known."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._facts: dict[int, Array | None] = {}

    def constant(self, array: Array, name: str = "c") -> Value:
        """A constant."""
        return self.graph.constant(array, name)

    def emit(
        self,
        op: base.Op,
        ins: Sequence[Value | None],
        names: Sequence[str] = (),
        origin: Origin | None = None,
    ) -> list[Value]:
        """The results of one more node, or the constants that they are."""
        op, ins = resolve(op, ins, self.known)
        if isinstance(op, Loop) and (trips := trips_of(op, ins, self.static)) is not None:
            op, ins = counted(op, ins, self.constant(np.arange(trips), "trips"))
        folded = self._fold(op, ins)
        if folded is not None:
            names = [*names, *["c"] * len(folded)]
            return [self.constant(a, name) for a, name in zip(folded, names, strict=False)]
        node = self.graph.add(op, ins, names=names, origin=origin)
        if not isinstance(op, Shape | Size) and any(map(self._runs, node.operands)):
            self._facts.update((id(v), None) for v in node.outputs)
        return list(node.outputs)

    def _runs(self, value: Value) -> bool:
        """Whether ``value`` is known to be unknown, without a look at what it is made of."""
        if value.producer is None:
            return not value.is_constant
        return self._facts.get(id(value), value) is None

    def known(self, value: Value | None) -> Array | None:
        """The elements of ``value``, where they are known; symbols among them if of ``object``s."""
        if value is None or value.data is not None:
            return None if value is None else value.data
        if 0 in value.type.shape and all(isinstance(d, int) for d in value.type.shape):
            return np.zeros(value.type.static, numpy_dtype(value.type.dtype))
        if value.producer is None:
            return None
        if id(value) not in self._facts:
            node = value.producer
            for out, fact in zip(node.outputs, self._evaluate(node), strict=True):
                self._facts[id(out)] = fact
        return self._facts[id(value)]

    def static(self, value: Value | None) -> Array | None:
        """The elements of ``value`` where all of them are known."""
        fact = self.known(value)
        return None if fact is None or fact.dtype == _SYMBOLIC else fact

    def _evaluate(self, node: Node) -> Sequence[Array | None]:
        """Facts about the results of ``node``."""
        unknown = [None] * len(node.outputs)
        if isinstance(node.op, Shape | Size | ConstantOfShape):
            return self._symbolic(node.op, node.inputs) or unknown
        facts = [self.known(v) for v in node.inputs]
        absent = any(f is None and v is not None for f, v in zip(facts, node.inputs, strict=True))
        if absent or any(isinstance(d, str) for v in node.outputs for d in v.type.shape):
            return unknown
        if sum(v.type.size for v in node.outputs) > _MANY:
            return unknown
        if any(f is not None and f.dtype == _SYMBOLIC for f in facts):
            return self._symbolic(node.op, node.inputs) or unknown
        return node.op.eval(facts)

    def _fold(self, op: base.Op, ins: Sequence[Value | None]) -> Sequence[Array] | None:
        """The results as constants if they are integers or bools that are known."""
        if isinstance(op, Shape | Size | ConstantOfShape):
            found = self._symbolic(op, ins)
        elif (
            isinstance(op, _KEEP) or not ins or any(v is not None and v.type.is_float for v in ins)
        ):
            return None
        else:
            facts = [self.known(v) for v in ins]
            if any(f is None and v is not None for f, v in zip(facts, ins, strict=True)):
                return None
            if any(f is not None and f.dtype == _SYMBOLIC for f in facts):
                found = self._symbolic(op, ins)
            else:
                types = op.infer(list(ins))
                if any(t.is_float or t.quant for t in types) or sum(t.size for t in types) > _MANY:
                    return None
                found = op.eval(facts)
        if found is None or any(a is None or a.dtype == _SYMBOLIC for a in found):
            return None
        return [a for a in found if a is not None]

    def _symbolic(self, op: base.Op, ins: Sequence[Value | None]) -> Sequence[Array | None] | None:
        """The results of shape arithmetic on numbers and symbols; None where that is not known."""
        x = base.operand(ins, 0) if ins else None
        if isinstance(op, Shape) and x is not None:
            return [_settle(x.type.shape[op.start : op.end])]
        if isinstance(op, Size) and x is not None:
            return [_settle(product(x.type.shape))]
        if isinstance(op, ConstantOfShape):
            shape = op.shape
            if shape is None or any(isinstance(d, str) for d in shape):
                return None
            count = int(np.prod([d for d in shape if isinstance(d, int)]))
            return op.eval([]) if count <= _MANY else None
        facts = [self.known(v) for v in ins]
        if any(f is not None and f.size > _FEW for f in facts):
            return None
        try:
            if isinstance(op, _MOVES):
                return [_settle(a) for a in op.eval(facts)]
            if isinstance(op, Cast):
                return [facts[0]] if op.to in ("int32", "int64") else None
            return [_settle(a) for a in _arithmetic(op, [f for f in facts if f is not None])]
        except (ValueError, TypeError, KeyError):
            return None


def _settle(elements: object) -> Array:
    """Numbers as int64 (or bool); as objects where symbols are among them."""
    array = np.asarray(elements, object)
    flat = array.ravel().tolist()
    if any(isinstance(e, str) for e in flat):
        return array
    kind = np.bool_ if flat and all(isinstance(e, bool | np.bool_) for e in flat) else np.int64
    return array.astype(kind)


_RULES: dict[type[base.Op], Callable[[Dim, Dim], Dim | bool]] = {
    Add: lambda a, b: plus(a, b),
    Sub: lambda a, b: plus(a, -_number(b)),
    Mul: lambda a, b: product((a, b)),
    Div: lambda a, b: quotient([a], [_number(b)]),
    Max: lambda a, b: max(_number(a), _number(b)),
    Min: lambda a, b: min(_number(a), _number(b)),
    Equal: lambda a, b: _equal(a, b),
}


def _arithmetic(op: base.Op, facts: Sequence[Array]) -> list[Array]:
    objects = [f.astype(object) for f in facts]
    if isinstance(op, Where):
        return [np.where(facts[0].astype(bool), objects[1], objects[2])]
    if isinstance(op, ReduceProd):
        return [
            np.asarray(product(objects[0].ravel().tolist()), object).reshape((1,) * op.keepdims)
        ]
    if len(objects) != 2:
        raise ValueError(op.name)
    rule = _RULES[type(op)]
    a, b = np.broadcast_arrays(*objects)
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    out = np.empty(a.size, object)
    out[:] = [rule(p, q) for p, q in pairs]
    return [out.reshape(a.shape)]


def _number(d: Dim) -> int:
    if not isinstance(d, int):
        raise ValueError(f"{d!r} is not known")
    return d


def _equal(a: Dim, b: Dim) -> bool:
    if a == b:
        return True
    numbers = [d for d in (a, b) if isinstance(d, int)]
    if len(numbers) == 2 or (len(numbers) == 1 and numbers[0] <= 0):
        return False
    raise ValueError(f"{a!r} may or may not be {b!r}")
