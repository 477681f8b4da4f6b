"""Attention to states as one op, so that code may stop at the position.

::

    %s = MatMul(%q, %k.present)   %a = Add(%s, %mask.at)   %w = Softmax(%a)
    %y = MatMul(%w, %v.present)            ->        %y = CachedAttention(%q, %k.present, ...)

Between the products: elementwise ops of two operands (or ``Where``) and, in integers, one
quantization.  What has more between them stays as it is.
"""

from __future__ import annotations

from typing import Any

from ...ir import ops
from ...ir.graph import Graph, Node, Value
from ...ir.ops.attention import CachedAttention
from ...ir.ops.base import Op

_SWAP = (ops.Add, ops.Mul)
_STEPS = (ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Where)


def fuse_attention(graph: Graph, position: Value) -> int:
    """Replace every attention to states in a graph of steps; how many."""
    count = 0
    for node in list(graph.nodes):
        if _looks_at_state(node, -2) and (found := _attention(graph, node, position)) is not None:
            op, ins = found
            made = graph.add(op, ins, names=[node.output.name], origin=node.origin, before=node)
            graph.replace(node.output, made.output)
            count += 1
    graph.prune()
    return count


def _looks_at_state(node: Node, axis: int) -> bool:
    """Whether ``node`` is a product with what was written along ``axis`` of its second operand."""
    if not isinstance(node.op, ops.MatMul | ops.QMatMul):
        return False
    b = _kept(node)
    made: Any = None if b.producer is None else b.producer.op
    return isinstance(made, ops.TensorScatter) and made.axis % b.type.rank == b.type.rank + axis


def _kept(node: Node) -> Value:
    """The second operand, as it was before its heads were repeated."""
    b = node.operands[1]
    for kind in (ops.Reshape, ops.Expand, ops.Unsqueeze):
        made = b.producer
        if made is None or not isinstance(made.op, kind):
            return node.operands[1]
        b = made.operands[0]
    return b


def _attention(
    graph: Graph, product: Node, position: Value
) -> tuple[CachedAttention, list[Value | None]] | None:
    """The op that ends in ``product``, and its operands."""
    weights, codes = product.operands[0], None
    if (node := _only(graph, weights)) is not None and isinstance(node.op, ops.Quantize):
        codes, weights = node.op, node.operands[0]
    softmax: Any = _only(graph, weights)
    rank = weights.type.rank
    if softmax is None or not isinstance(softmax.op, ops.Softmax):
        return None
    if softmax.op.axis % rank != rank - 1 or (codes is not None and codes.axis is not None):
        return None
    steps: list[Op] = []
    extras: list[Value | None] = []
    value = softmax.operands[0]
    while (node := _only(graph, value)) is not None and isinstance(node.op, _STEPS):
        through = _through(node)
        if through is None:
            return None
        steps.insert(0, node.op)
        extras[:0] = [v for v in node.inputs if v is not through]
        value = through
    if node is None or not _looks_at_state(node, -1) or not _plain(node) or not _plain(product):
        return None
    if node.operands[0].shape[-2] != position.shape[0] or node.output.type.dtype != "float32":
        return None
    k, v = _kept(node), _kept(product)
    groups = {x.operands[1].shape[-3] // y.shape[-3] if y.type.rank > 2 else 1
              for x, y in ((node, k), (product, v))}  # fmt: skip
    if len(groups) > 1:
        return None
    op = CachedAttention(node.op, tuple(steps), codes, product.op, groups.pop())
    bias = [*_rest(node), *_rest(product)]
    operands = [node.operands[0], k, v, position]
    return op, [*operands, *bias, *extras]


def _only(graph: Graph, value: Value) -> Node | None:
    """What makes ``value``, if it has one reader."""
    return value.producer if graph.sole_use(value) is not None else None


def _through(node: Node) -> Value | None:
    """The operand that comes from the scores: full rows, where the others are broadcast."""
    made = [
        v for v in node.operands if v.producer is not None and v.type.shape == node.output.shape
    ]
    made = [v for v in made if v.producer is not None and v.producer.op.name != "Gather"]
    first = node.operands[1 if isinstance(node.op, ops.Where) else 0]
    if len(made) != 1 or (made[0] is not first and not isinstance(node.op, _SWAP)):
        return None
    return made[0]


def _rest(node: Node) -> list[Value | None]:
    """Bias and multiplier of a product."""
    return [*node.inputs[2:4], None, None][:2]


def _plain(node: Node) -> bool:
    """Whether a product ends in its accumulators, reals or codes: no residual, no table."""
    if isinstance(node.op, ops.MatMul):
        return True
    e: Any = getattr(node.op, "epilogue", None)
    return e.dtype in ("float32", "uint8") and e.residual is None and not e.table
