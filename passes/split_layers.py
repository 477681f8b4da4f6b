"""``split-layers``: packed layers become one layer per part.

Exporters pack layers that read the same input, and split the result.  Its parts would share one
scale and one factor per column; and parts that only real numbers are made of would become codes for
the others' sake.  ::

    %y = MatMul(%x, %w)    %a, %b = Split(%y) {axis=-1}
    ->
    %a = MatMul(%x, %w[:, :n])    %b = MatMul(%x, %w[:, n:])

Queries, keys and values that a Reshape makes an axis of are parts, too.

Does not handle: results that somebody else reads, too, and parts taken by Slice.
Source: MambaQuant's code splits the same layers (Xu et al., 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph
from ..ir.ops.shape import Reshape, Transpose
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .context import Context
from .linear import Linear
from .packed import Part, parts_of


@dataclass(frozen=True)
class SplitLayers(Pass):
    """Give every part of a layer's result a layer of its own, where nothing else is read of it."""

    name: ClassVar[str] = "split-layers"
    kind: ClassVar[Kind] = Kind.EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Rewrite all such layers."""
        count = 0
        for layer in [x for x in map(Linear.of, graph.nodes) if x is not None and not x.is_conv]:
            parts = parts_of(graph, layer.node.output)
            for part in parts:
                _unpack(graph, layer, part)
            count += bool(parts)
        graph.prune()
        return {"rewrites": count}


def _unpack(graph: Graph, layer: Linear, part: Part) -> None:
    """A layer of one part's columns, in front of the whole one."""
    node, name = layer.node, part.value.name
    x, *weights = node.operands
    weights = [graph.constant(_columns(np.asarray(v.data), part.columns), v.name) for v in weights]
    origin = node.provenance
    made = graph.add(
        node.op, [x, *weights], names=[f"{name}.layer"], before=node, origin=origin
    ).output
    if part.shape is not None:
        op = Reshape(part.shape)
        made = graph.add(op, [made], names=[f"{name}.view"], before=node, origin=origin).output
    if part.perm is not None:
        turn = Transpose(part.perm)
        made = graph.add(turn, [made], names=[f"{name}.turned"], before=node, origin=origin).output
    graph.replace(part.value, made)


def _columns(data: Array, columns: Array) -> Array:
    """Of a matrix or a bias; one number for all columns stays."""
    return data if data.shape[-1] == 1 else np.ascontiguousarray(data[..., columns])
