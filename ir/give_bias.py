"""Biases for layers that have none."""

from __future__ import annotations

from .graph import Graph, Node
from .ops.nn import Gemm, MatMul
from .types import Array


def give_bias(graph: Graph, node: Node, bias: Array) -> Node:
    """The layer with a third operand ``bias [outputs]``, in place; its result keeps its name.

    A MatMul with a constant matrix becomes a Gemm, since it has no such operand.
    """
    y = node.output
    name = y.name
    constant = graph.constant(bias.astype(y.type.dtype), f"{name}.bias")
    inputs = [*node.operands, constant]
    if not isinstance(node.op, MatMul):
        graph.set_inputs(node, inputs)
        return node
    made = graph.add(Gemm(), inputs, names=[name], before=node, origin=node.provenance)
    graph.replace(y, made.output)
    if made.output.name != name:
        graph._swap_names(y, made.output)
    graph.remove(node)
    return made
