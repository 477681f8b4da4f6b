"""``split-layers``: packed layers become one layer per part.

Exporters pack layers that read the same input, and split the result.  Its parts would share one
scale; and parts that only real numbers are made of would become codes for the others' sake.  ::

    %y = MatMul(%x, %w)    %a, %b = Split(%y) {axis=-1}
    ->
    %a = MatMul(%x, %w[:, :n])    %b = MatMul(%x, %w[:, n:])

Does not handle: results that somebody else reads, too, and parts taken by Slice or Reshape.
Source: MambaQuant's code splits the same layers (Xu et al., 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node
from ..ir.ops.shape import Split
from .base import Kind, Pass, Statistics
from .context import Context
from .linear import Linear


@dataclass(frozen=True)
class SplitLayers(Pass):
    """Give every part of a layer's result, where a Split alone reads it, a layer of its own."""

    name: ClassVar[str] = "split-layers"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Rewrite all such layers."""
        found = [n for n in graph.nodes if isinstance(n.op, Split) and _is_packed(graph, n)]
        for node in found:
            _unpack(graph, node)
        graph.prune()
        return {"rewrites": len(found)}


def _is_packed(graph: Graph, node: Node) -> bool:
    """Whether a Split alone reads a product with a constant matrix, along its columns."""
    assert isinstance(node.op, Split)
    whole = node.operands[0]
    layer = Linear.of(whole.producer) if whole.producer is not None else None
    along = node.op.axis % whole.type.rank == whole.type.rank - 1
    return layer is not None and not layer.is_conv and along and graph.sole_use(whole) is node


def _unpack(graph: Graph, node: Node) -> None:
    layer = node.operands[0].producer
    assert layer is not None
    start = 0
    for part in node.outputs:
        stop = start + part.shape[-1]
        weights = [
            graph.constant(_columns(np.asarray(v.data), start, stop), v.name)
            for v in layer.operands[1:]
        ]
        inputs, names = [layer.operands[0], *weights], [f"{part.name}.layer"]
        made = graph.add(layer.op, inputs, names=names, before=node, origin=layer.provenance)
        graph.replace(part, made.output)
        start = stop


def _columns(data: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Of a matrix or a bias; one number for all columns stays."""
    return data if data.shape[-1] == 1 else data[..., start:stop]
