"""A Hadamard matrix in front of a layer, whose weights undo it: a rotation at run time."""

from __future__ import annotations

import numpy as np

from ..errors import PassError
from ..graph import Graph, Node
from ..ops.hadamard import Hadamard, rotation
from ..ops.nn import Gemm, MatMul


def mix(graph: Graph, layer: Node) -> Node:
    """Turn what a product with a constant matrix reads, in place; the new node.

    ``x @ W`` becomes ``(x @ H) @ (H^T W)``.  ``PassError`` for another op, and where there is no
    Hadamard matrix of that size.
    """
    constant = len(layer.operands) > 1 and layer.operands[1].is_constant
    plain = isinstance(layer.op, MatMul) or (
        isinstance(layer.op, Gemm) and not layer.op.trans_a and not layer.op.trans_b
    )
    if not (plain and constant and layer.operands[1].type.rank == 2):
        raise PassError(f"{layer!r} is no product with a constant matrix: nothing undoes a turn")
    x, weight = layer.operands[0], layer.operands[1]
    made = graph.add(Hadamard(), [x], names=[f"{x.name}.mixed"], before=layer)
    data = np.asarray(weight.data)
    turned = (rotation(len(data)).T @ data.astype(np.float64)).astype(data.dtype)
    if weight.uses == [layer]:
        graph.assign(weight, turned)
    else:
        weight = graph.constant(turned, weight.name)
    graph.set_inputs(layer, [made.output, weight, *layer.operands[2:]])
    return made
