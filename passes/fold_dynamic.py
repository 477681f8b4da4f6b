"""``fold-dynamic``: layers between DynamicDequantize and reals become integer ops.  ::

    %y = Conv(DynamicDequantize(%q, %s, %z), Dequantize(%w.q), %b)
    ->
    %p = QPad(%q, %z)   %acc = QConv(%p, %w.q)
    %y = DequantizeAccumulator(%acc, %s, %z, wsum, wscale, %b)

The products are exact integers; the reals around them are float32, so results agree with the
reference within the rounding of float islands (1e-5 relative).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.integer import DequantizeAccumulator, Epilogue, QConv, QMatMul, QPad
from ..ir.ops.quantize import DynamicDequantize
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .codes import integers_of
from .context import Context
from .quantize_dynamic import row_sums
from .rounding.weights import channel_axis


@dataclass(frozen=True)
class FoldDynamic(Pass):
    """Replace dynamically quantized layers by integer ones; see the module's documentation."""

    name: ClassVar[str] = "fold-dynamic"
    kind: ClassVar[Kind] = Kind.LOWERING
    requires: ClassVar[frozenset[str]] = frozenset({"quantized"})
    establishes: ClassVar[frozenset[str]] = frozenset({"integer"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fold every layer."""
        folded = 0
        for node in list(graph.nodes):
            new = _fold(graph, node)
            if new is not None:
                graph.replace(node.output, new)
                folded += 1
        graph.prune()
        return {"rewrites": folded}


def _fold(graph: Graph, node: Node) -> Value | None:
    if node.op.name not in ("Conv", "Gemm", "MatMul"):
        return None
    source, weights = node.operands[0].producer, integers_of(node.operands[1])
    if source is None or not isinstance(source.op, DynamicDequantize) or weights is None:
        return None
    q, scale, zero = source.operands
    axis, name = channel_axis(node), node.output.name
    origin = node.provenance

    def constant(array: Array, what: str) -> Value:
        return graph.constant(array, f"{name}.{what}")

    product, q = _product(graph, node, q, zero)
    inputs = [q, constant(weights.data, "weight")]
    acc = graph.add(product, inputs, names=[f"{name}.acc"], origin=origin, before=node).output
    rest = [
        scale,
        zero,
        constant(row_sums(weights.data, axis), "wsum"),
        constant(weights.scale.astype(np.float32), "wscale"),
        *node.operands[2:3],
    ]
    op = DequantizeAccumulator(1 if node.op.name == "Conv" else acc.type.rank - 1)
    return graph.add(op, [acc, *rest], names=[f"{name}.r"], origin=origin, before=node).output


def _product(graph: Graph, node: Node, q: Value, zero: Value) -> tuple[QConv | QMatMul, Value]:
    """The accumulating op and its input, padded with the zero point where it must be."""
    op = node.op
    if op.name != "Conv":
        return QMatMul(epilogue=Epilogue("int32")), q
    conv = QConv(op.strides, op.pads, op.dilations, op.group, 0, Epilogue("int32"))  # type: ignore[attr-defined]
    if any(conv.pads):
        n = len(conv.pads) // 2
        pads = (0, 0, *conv.pads[:n], 0, 0, *conv.pads[n:])
        made = graph.add(
            QPad(pads), [q, zero], names=[f"{q.name}.padded"], origin=node.provenance, before=node
        )
        return replace(conv, pads=(0,) * 2 * n), made.output
    return conv, q
