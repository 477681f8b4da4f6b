"""Layers that multiply by a table of embeddings: exporters store the turned table once more.

A language model that scores words by the table that it reads them from has one matrix, of which a
file often holds two: ``[words, channels]``, and what a layer multiplies by, ``[channels, words]``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.mapped import release
from ...ir.ops.shape import Transpose
from ...ir.types import Array

TURNED = (1, 0)


def is_embedding(node: Node) -> bool:
    """Whether a node reads rows of a constant matrix."""
    if node.op.name != "Gather" or node.op.axis != 0:  # type: ignore[attr-defined]
        return False
    table = node.operands[0]
    return table.is_constant and table.type.is_float and table.type.rank == 2


def is_table(value: Value) -> bool:
    """Whether a constant is a table of embeddings (and maybe weights of layers, too)."""
    return value.is_constant and any(is_embedding(n) and n.operands[0] is value for n in value.uses)


def is_turned(node: Node) -> bool:
    """Whether a node turns a table of embeddings."""
    return node.op == Transpose(TURNED) and is_table(node.operands[0])


def tie_tables(graph: Graph, nodes: Iterable[Node]) -> None:
    """Let those of ``nodes`` that multiply by a table, turned or not, read the table itself."""
    tables = [v for v in graph.constants if is_table(v)]
    for node in nodes:
        if node.op.name in ("Gemm", "MatMul") and node.operands[1].is_constant:
            weights = _from_table(graph, node, tables)
            graph.set_inputs(node, [node.inputs[0], weights, *node.inputs[2:]])
    graph.prune()


def _from_table(graph: Graph, node: Node, tables: Iterable[Value]) -> Value:
    """The weights of a layer: a table, a turned one, or what they are."""
    weights = node.operands[1]
    for table in tables:
        if _equal(weights.data, table.data):
            return table
        if _equal(weights.data, table.data, turned=True):
            name = f"{table.name}.turned"
            return graph.add(Transpose(TURNED), [table], names=[name], before=node).output
    return weights


def _equal(weights: Array | None, table: Array | None, turned: bool = False) -> bool:
    assert weights is not None
    assert table is not None
    other = table.T if turned else table
    if weights.shape != other.shape or weights.dtype != other.dtype:
        return False
    found = np.array_equal(weights[:1], other[:1]) and np.array_equal(weights, other)
    release(weights)
    release(table)
    return found
