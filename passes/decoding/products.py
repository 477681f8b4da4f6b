"""Products of matrices: rows that are positions, scores of positions, sums over earlier ones."""

from __future__ import annotations

from typing import Any

from ...ir import ops
from ...ir.graph import Node
from .times import Times, Timing, refuse


def multiplied(timing: Timing, node: Node) -> list[Times]:
    """``MatMul``, ``QMatMul``, ``Gemm``."""
    op: Any = node.op
    a, b = node.operands[:2]
    ours, theirs = timing.of(a), timing.of(b)
    if isinstance(op, ops.Gemm) and (op.trans_a or theirs is not None):
        refuse(node, "positions are summed over")
    rank = node.output.type.rank
    if ours is not None and theirs is not None:
        times = _both(timing, node, ours, theirs)
    elif ours is not None:
        shift = rank - a.type.rank
        if a.type.rank - 1 in (ours.query, ours.key):
            refuse(node, "positions are summed over")
        key = None if ours.key is None else ours.key + shift
        times = Times(ours.query + shift, key)
    else:
        assert theirs is not None
        if theirs.key is not None or theirs.query == b.type.rank - 2:
            refuse(node, "positions are summed over")
        if isinstance(op, ops.QMatMul):
            refuse(node, "positions are the columns of a product of codes")
        times = Times(theirs.query + rank - b.type.rank)
    for index, value in enumerate(node.inputs[2:], 2):
        if value is None:
            continue
        found, shift = timing.of(value), rank - value.type.rank
        if found is None:
            timing.meet(node, index, times.query, None)
        elif found.query + shift != times.query or found.key is not None:
            refuse(node, "positions meet other positions")
    return [times]


def _both(timing: Timing, node: Node, ours: Times, theirs: Times) -> Times:
    """Scores, or a sum that scores weigh."""
    a, b = node.operands[:2]
    rank, wide, tall = node.output.type.rank, a.type.rank, b.type.rank
    beside = ours.query < wide - 2 and ours.query + rank - wide == theirs.query + rank - tall
    if beside and ours.key is None and theirs.key is None:
        return Times(ours.query + rank - wide)
    if theirs.key is not None or ours.query != wide - 2:
        refuse(node, "positions meet other positions")
    if theirs.query == tall - 1 and ours.key is None:
        timing.cached[id(node), 1] = theirs.query
        return Times(rank - 2, rank - 1)
    if theirs.query != tall - 2 or ours.key != wide - 1:
        refuse(node, "positions meet other positions")
    if ours.above != 0.0:
        refuse(node, "later positions are not masked in what weighs this sum")
    timing.cached[id(node), 1] = theirs.query
    return Times(rank - 2)
