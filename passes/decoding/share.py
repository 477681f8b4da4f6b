"""Heads that share keys and values: what is kept is kept once.

Networks repeat shared heads before the product, by expansion or by a gather of indices.  Followed
on indices instead of numbers, that shows which heads are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ...ir import ops
from ...ir.graph import Node, Value
from ...ir.types import Array

_MOVES = (ops.Reshape, ops.Transpose, ops.Unsqueeze, ops.Squeeze, ops.Expand, ops.Identity)
_MOST_AXES = 6


@dataclass(frozen=True)
class Shared:
    """``value`` is ``Transpose(root, perm)`` with every head ``times`` times beside itself."""

    root: Value
    perm: tuple[int, ...]
    times: int


def shared(value: Value) -> Shared | None:
    """How the heads (third axis from the end) of a product's operand share; None: they do not."""
    if value.type.rank < 3 or value.type.rank > _MOST_AXES:
        return None
    chain: list[Node] = []
    at = value
    while (node := at.producer) is not None and _moves(node):
        chain.insert(0, node)
        at = node.operands[0]
    repeats = [i for i, n in enumerate(chain) if isinstance(n.op, ops.Expand | ops.Gather)]
    if not repeats:
        return None
    first = repeats[0]
    if first and isinstance(chain[first - 1].op, ops.Unsqueeze):
        first -= 1
    root = chain[first].operands[0]
    heads = _indices(root, chain[first:])
    for times in range(heads.shape[-3], 1, -1):
        if heads.shape[-3] % times:
            continue
        once = heads[..., ::times, :, :]
        if np.array_equal(np.repeat(once, times, -3), heads):
            perm = _perm(root, once)
            return None if perm is None else Shared(root, perm, times)
    return None


def _moves(node: Node) -> bool:
    """Whether ``node`` only moves and repeats elements."""
    if isinstance(node.op, ops.Gather):
        return node.operands[1].is_constant and not node.operands[0].is_constant
    return isinstance(node.op, _MOVES) and len(node.operands) == 1


def _indices(root: Value, chain: list[Node]) -> Array:
    """For every element at the end of ``chain`` its place in ``root``."""
    found: Array = np.arange(root.type.size).reshape(root.shape)
    for node in chain:
        (found,) = node.op.eval([found, *(v.data for v in node.operands[1:])])
    return found


def _perm(root: Value, wanted: Array) -> tuple[int, ...] | None:
    """The order of axes of ``root`` that gives ``wanted``."""
    whole = np.arange(root.type.size).reshape(root.shape)
    for perm in permutations(range(whole.ndim)):
        turned = whole.transpose(perm)
        if turned.shape == wanted.shape and np.array_equal(turned, wanted):
            return perm
    return None
