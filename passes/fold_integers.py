"""``fold-integers``: a quantized float graph becomes a graph of integer ops.

Zero points are folded into biases, scales into one float32 multiplier per channel, activations'
clamps into the bounds of codes, residual sums into epilogues (fixed point), unary functions into
tables of 256 entries.  ::

    %y.q = Quantize(Relu(Conv(%x.d, %w.d, %b.d)))
    ->
    %y.q = QConv(%x.q, %w.q, %bias, %multiplier)

What has no integer form stays float between Dequantize and Quantize (a float island).  Rounding
of a sum may differ from the float graph's by one step; everything after this pass is exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.integer import IntegerOp, QTable
from ..ir.ops.quantize import Dequantize, Quantize
from ..ir.types import Array
from .base import Kind, Pass, Statistics
from .codes import Codes, Units, codes_of, private
from .context import Context
from .integers import layers as build
from .plan import CLAMPS, MOVERS, POOLS, SUMS, UNARY, interpolates


@dataclass(frozen=True)
class FoldIntegers(Pass):
    """Replace float nodes between Dequantize and Quantize by integer ones; see the module."""

    name: ClassVar[str] = "fold-integers"
    kind: ClassVar[Kind] = Kind.LOWERING
    requires: ClassVar[frozenset[str]] = frozenset({"quantized"})
    establishes: ClassVar[frozenset[str]] = frozenset({"integer"})

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Fold every Quantize, then what turns codes into reals."""
        folds = 0
        for node in list(graph.nodes):
            if isinstance(node.op, Quantize) and node.op.axis is None:
                folded = fold_quantize(graph, node)
                if folded is not None and folded is not node.output:
                    folds += 1
                    graph.replace(node.output, folded)
        for node in list(graph.nodes):
            real = fold_real(graph, node)
            if real is not None:
                folds += 1
                graph.replace(node.output, real)
        graph.prune()
        counts = Counter(n.op.name for n in graph.nodes if isinstance(n.op, IntegerOp))
        islands = [n for n in graph.nodes if _is_island(n)]
        for node in islands:
            context.why_float.setdefault(
                node.name, f"{node.op.name} of its codes has no integer form"
            )
        return {"rewrites": folds, "float_nodes": len(islands), **counts}


def fold_quantize(graph: Graph, root: Node) -> Value | None:
    """The codes that ``root`` (a Quantize) makes, by integer ops; None where a real goes in."""
    assert isinstance(root.op, Quantize)
    units, value = _peel_clamps(graph, Units.of(root.op), root.operands[0])
    same = codes_of(value)
    if same is not None:
        return _requantize(graph, same, units, root)
    if value.data is not None:
        return graph.constant(root.op.eval([value.data])[0], f"{value.name}.q", root.output.type)
    node = value.producer
    if node is None:
        return None
    if node.op.name in MOVERS:
        if units != Units.of(root.op) and not _clamps_before(node, units):
            return None
        return _move(graph, node, value, units, root)
    made = _compute(graph, node, value, units, root)
    return made if made is not None else _table(graph, root)


def _compute(graph: Graph, node: Node, value: Value, units: Units, root: Node) -> Value | None:
    if not private(graph, value):
        return None
    layer = build.layer_of(node)
    if layer is not None:
        return build.plain_layer(graph, layer, units, root)
    if node.op.name == "MatMul":
        return build.product_of_codes(graph, node, units, root)
    if node.op.name in SUMS:
        fused = _fused_sum(graph, node, units, root)
        return fused if fused is not None else build.sum_of_codes(graph, node, units, root)
    if node.op.name == "Mul":
        return build.elementwise_product(graph, node, units, root)
    if node.op.name in POOLS:
        return build.average(graph, node, units, root)
    return None


def fold_real(graph: Graph, node: Node) -> Value | None:
    """The reals that an anchor or a softmax of codes makes, by an integer op."""
    if node.op.name == "Softmax":
        return build.softmax(graph, node, node)
    layer = build.layer_of(node)
    if layer is not None:
        return build.real_layer(graph, layer, node)
    return build.product_of_codes(graph, node, None, node) if node.op.name == "MatMul" else None


def _peel_clamps(graph: Graph, units: Units, value: Value) -> tuple[Units, Value]:
    """Skip clamps that only the Quantize reads; their bounds narrow the codes."""
    while (node := value.producer) is not None and node.op.name in CLAMPS and private(graph, value):
        inner = node.operands[0]
        if node.op.name == "Relu":
            units = units.clamp(0.0, None)
        else:
            units = units.clamp(node.op.min, node.op.max)  # type: ignore[attr-defined]
        value = inner
    return units, value


def _fused_sum(graph: Graph, node: Node, units: Units, root: Node) -> Value | None:
    """Conv/MatMul + codes in one epilogue."""
    if node.op.name != "Add":
        return None
    a, b = node.operands
    for host, other in ((a, b), (b, a)):
        layer, codes = build.layer_of(host.producer), codes_of(other)
        same = host.type.shape == other.type.shape and private(graph, host)
        if layer is not None and codes is not None and same:
            return build.residual_layer(graph, layer, codes, units, root)
    return None


def _move(graph: Graph, node: Node, value: Value, units: Units, root: Node) -> Value | None:
    """``value`` of a node that only moves elements, which does so with codes."""
    data = node.operands if node.op.name == "Concat" else node.operands[:1]
    moved = []
    for each in data:
        codes = codes_of(each)
        if codes is None:
            return None
        moved.append(_requantize(graph, codes, units, root))
    op = node.op
    if interpolates(node):
        return build.interpolation(graph, node, moved[0], root)
    if op.name == "Pad":
        op = replace(op, value=float(units.zero))  # type: ignore[call-arg]
    rest = node.inputs[len(data) :]
    made = graph.add(op, [*moved, *rest], origin=node.provenance, before=root,
                     names=[f"{v.name}.q" for v in node.outputs])  # fmt: skip
    return made.outputs[node.outputs.index(value)]


def _clamps_before(node: Node, units: Units) -> bool:
    """Whether a clamp may as well come before a mover: what is mixed, or padded with, is inside."""
    return not interpolates(node) and units.low <= units.zero <= units.high


def _requantize(graph: Graph, codes: Codes, units: Units, root: Node) -> Value:
    """Codes in other units or bounds: themselves, a table, or a fixed-point change of scale."""
    whole = units.low == 0 and units.high >= codes.top
    same = (codes.scale, codes.zero, codes.value.type.dtype) == (
        units.scale,
        units.zero,
        units.dtype,
    )
    if same and whole:
        return codes.value
    if codes.value.type.dtype == "uint8" and units.dtype == "uint8":
        return _lookup(graph, codes, _map_codes(codes, units), units, root)
    reals = graph.add(
        Dequantize((codes.scale,), (codes.zero,)),
        [codes.value],
        before=root,
        origin=root.provenance,
    )
    op = Quantize((units.scale,), (units.zero,), None, units.dtype, units.low, units.high)
    return graph.add(op, [reals.output], before=root, origin=root.provenance).output


def _table(graph: Graph, root: Node) -> Value | None:
    """A chain of unary functions from 8-bit codes to 8-bit codes is a table."""
    assert isinstance(root.op, Quantize)
    chain, value = [], root.operands[0]
    while codes_of(value) is None:
        node = value.producer
        if node is None or not _is_unary(node) or not private(graph, value):
            return None
        chain.append(node)
        value = next(v for v in node.operands if not v.is_constant)
    codes = codes_of(value)
    if codes is None or codes.value.type.dtype != "uint8" or root.op.dtype != "uint8":
        return None
    reals = _reals(codes)
    for node in reversed(chain):
        arrays = [reals if v is not None and not v.is_constant else _flat(v) for v in node.inputs]
        with np.errstate(all="ignore"):
            reals = node.op.eval(arrays)[0]
    return _lookup(graph, codes, root.op.eval([reals])[0], Units.of(root.op), root)


def _lookup(graph: Graph, codes: Codes, table: Array, units: Units, root: Node) -> Value:
    name = root.operands[0].name
    constant = graph.constant(table.astype(units.dtype), f"{name}.table")
    op = QTable(units.scale, units.zero)
    origin = root.operands[0].producer.provenance if root.operands[0].producer else root.provenance
    return graph.add(
        op, [codes.value, constant], names=[f"{name}.q"], origin=origin, before=root
    ).output


def _map_codes(codes: Codes, units: Units) -> Array:
    q = np.rint(_reals(codes) / np.float32(units.scale)) + units.zero
    return np.asarray(np.clip(q, units.low, units.high))


def _reals(codes: Codes) -> Array:
    """What the 256 codes stand for."""
    return (np.arange(256, dtype=np.int32) - codes.zero).astype(np.float32) * np.float32(
        codes.scale
    )


def _flat(value: Value | None) -> Array | None:
    return None if value is None or value.data is None else value.data.reshape(-1)


def _is_unary(node: Node) -> bool:
    if node.op.name in UNARY or node.op.name in CLAMPS:
        return True
    constants = [v for v in node.operands if v.is_constant]
    one = len(constants) == 1 and constants[0].data is not None and constants[0].data.size == 1
    return node.op.name in ("Mul", "Div") and one and len(node.operands) == 2


def _is_island(node: Node) -> bool:
    reals = any(v.type.is_float for v in node.outputs)
    return reals and not isinstance(node.op, Dequantize | IntegerOp)
