"""``quantize-dynamic``: int8 weights; activations quantized by their own range at run time.

Nothing is made up: without calibration data no range is guessed.  One scale per row (token) for
matrix products, per sample for convolutions, so that results do not depend on the batch, and per
sample and channel for depthwise ones, which have an accumulator for every channel anyway.  ::

    %y = Conv(%x, %w, %b)
    ->
    %q, %s, %z = DynamicQuantize(%x)   %d = DynamicDequantize(%q, %s, %z)
    %y = Conv(%d, Dequantize(%w.q), %b)
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.quantize import DynamicDequantize, DynamicQuantize
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .context import Context
from .linear import Linear
from .plan import role
from .rounding.weights import WeightCodes, rounded


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Dynamic quantization of every convolution and product with constant weights."""

    name: ClassVar[str] = "quantize-dynamic"
    kind: ClassVar[Kind] = Kind.LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    establishes: ClassVar[frozenset[str]] = frozenset({"quantized"})

    weight_bits: int = 8

    def __post_init__(self) -> None:
        """Refuse widths that int8 cannot hold."""
        WeightCodes(self.weight_bits).check(self.name)

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Quantize layer by layer; layers with the same input share its codes."""
        shared: dict[tuple[int, int], Value] = {}
        layers = 0
        for node in list(graph.nodes):
            kind = role(node, context.kept)
            if kind != "anchor" or not node.operands[1].is_constant:
                why = kind.partition(": ")[2]
                if node.op.name in ("Conv", "Gemm", "MatMul", "ConvTranspose"):
                    why = why or "a product of two activations"
                other = "ranges are known at run time only: between products all is float"
                context.why_float[node.name] = context.kept.why(node.name) or why or other
                continue
            x = node.operands[0]
            axis = _first_reduced(node)
            key = (id(x), axis)
            if key not in shared:
                shared[key] = _dynamic(graph, node, x, axis)
            graph.set_inputs(node, [shared[key], *node.inputs[1:]])
            bias = node.inputs[2:]
            graph.set_inputs(node, node.inputs[:2])
            how = WeightCodes(self.weight_bits, "squant")
            rounded(Linear(node), 1.0, how).write(graph, node, 1.0)
            graph.set_inputs(node, [*node.inputs, *bias])
            layers += 1
        graph.prune()
        return {"rewrites": layers, "layers": layers}


def _first_reduced(node: Node) -> int:
    """The first axis of the input that shares a scale with all axes after it."""
    if node.op.name != "Conv":
        return node.operands[0].type.rank - 1
    outputs, inputs = node.operands[1].shape[:2]
    return 2 if inputs == 1 and node.op.group == outputs else 1  # type: ignore[attr-defined]


def _dynamic(graph: Graph, node: Node, x: Value, axis: int) -> Value:
    names = [f"{x.name}.q", f"{x.name}.scale", f"{x.name}.zero"]
    made = graph.add(DynamicQuantize(axis), [x], names=names, before=node)
    op = DynamicDequantize()
    return graph.add(op, list(made.outputs), names=[f"{x.name}.d"], before=node).output


def row_sums(weight: Array, axis: int) -> Array:
    """int32 sums of the weights of every output channel, for the zero point's share."""
    wide = np.moveaxis(weight.astype(np.int64), axis, 0).reshape(weight.shape[axis], -1)
    return np.asarray(wide.sum(1).astype(np.int32))
