"""Adding a number to every channel: what a producer's bias adds, its consumers' biases take off."""

from __future__ import annotations

import numpy as np

from ..coupling import Sites
from ..errors import PassError
from ..give_bias import give_bias
from ..graph import Graph, Node, Value
from ..ops.nn import Conv, ConvTranspose, Gemm, MatMul
from ..types import Array
from .rewritten import rewritten


def shift(sites: Sites, amount: Array) -> Graph:
    """A copy of the analysed graph with shifted channels; its function is the same.

    ``amount`` (``[count]``) is what is added to each component of ``Sites(graph, Action.SHIFT)``
    where its site has the power 1.  Layers that have no bias get one where they need it.
    ``PassError`` if a component that must stay moves, or an amount is not finite.
    """
    if not np.isfinite(amount).all():
        raise PassError("channels are shifted by finite amounts only")
    sites.check(amount != 0)
    amounts = sites.spread(amount)
    graph = rewritten(sites.graph, lambda value, data: shifted(sites, value, data, amounts))
    for old, new in zip(sites.graph.nodes, list(graph.nodes), strict=True):
        change = _missing(sites, old, amounts)
        if change.any():
            _add_bias(graph, new, change)
    return graph


def shifted(sites: Sites, value: Value, data: Array, amounts: Array) -> Array:
    """``data`` with what ``amounts`` (of ``Sites.spread``) add to a value."""
    out = data
    for axis in range(value.type.rank if value.type.is_float else 0):
        added = sites.along(value, axis, amounts)
        if added.any():
            shape = [-1 if k == axis else 1 for k in range(data.ndim)]
            out = np.add(out, added.reshape(shape))
    return out.astype(data.dtype, copy=False)


def _missing(sites: Sites, node: Node, amounts: Array) -> Array:
    """What a layer's bias must add: what its result is shifted by, less what its input brings."""
    op = node.op
    if not isinstance(op, Conv | ConvTranspose | Gemm | MatMul):
        return np.zeros(1)
    x, w, y = node.operands[0], node.operands[1], node.output
    brought = sites.along(x, _summed(op, x), amounts)
    change = np.zeros(1)
    if brought.any():
        change = -_response(op, brought, np.asarray(w.data, np.float64))
    if len(node.operands) == 2:
        change = change + sites.along(y, _made(op, y), amounts)
    return change


def _summed(op: Conv | ConvTranspose | Gemm | MatMul, x: Value) -> int:
    """The axis of the input that a layer sums over."""
    if isinstance(op, Conv | ConvTranspose):
        return 1
    return 0 if isinstance(op, Gemm) and op.trans_a else x.type.rank - 1


def _made(op: Conv | ConvTranspose | Gemm | MatMul, y: Value) -> int:
    """The axis of the channels that a layer makes."""
    return 1 if isinstance(op, Conv | ConvTranspose) else y.type.rank - 1


def _response(op: Conv | ConvTranspose | Gemm | MatMul, brought: Array, w: Array) -> Array:
    """What an unpadded layer makes of inputs that are ``brought`` everywhere; ``[outputs]``."""
    if isinstance(op, Conv):
        reach = [d * (k - 1) + 1 for d, k in zip(op.dilations, w.shape[2:], strict=True)]
        x = np.broadcast_to(brought.reshape(1, -1, *(1,) * len(reach)), (1, len(brought), *reach))
    else:
        x = brought[:, None] if isinstance(op, Gemm) and op.trans_a else brought[None]
    return op.eval([x, w])[0].ravel()


def _add_bias(graph: Graph, node: Node, change: Array) -> None:
    """Let a layer's results be ``change`` more, by its bias or one that it is given."""
    if len(node.operands) == 2:
        give_bias(graph, node, change)
        return
    if isinstance(node.op, Gemm):
        change = change / node.op.beta
    old = node.operands[2]
    bias = np.add(np.asarray(old.data), change).astype(node.output.type.dtype)
    graph.set_inputs(node, [*node.operands[:2], graph.constant(bias, old.name)])
