"""Building integer nodes from float nodes between Dequantize and Quantize.

Each builder gives the codes (or reals) that replace a value, or None where the node is not of its
form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.ops.integer import Epilogue, QAveragePool, QConv, QMatMul, QMul, QSoftmax, QSum, Residual
from ...ir.ops.integer_resize import QResize
from ...ir.ops.resize import Resize
from ...ir.types import Array
from ..codes import Codes, Units, codes_of, integers_of
from .fixed_point import exp_tables, fixed_shares, fixed_sum, mean_multipliers, residual_shift


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product of codes with integer weights, before its epilogue."""

    node: Node
    x: Codes
    weights: Array
    scale: Array
    bias: Array

    @property
    def unit(self) -> Array:
        """What one step of the accumulator stands for, per output channel (float64)."""
        return self.scale * self.x.scale

    @property
    def reach(self) -> Array:
        """Bound of the accumulator's magnitude per output channel."""
        axis = 0 if self.node.op.name == "Conv" else 1
        rows = np.moveaxis(np.abs(self.weights.astype(np.int64)), axis, 0).reshape(
            len(self.scale), -1
        )
        return np.asarray(rows.sum(1) * self.x.top + np.abs(self.bias), np.float64)


def layer_of(node: Node | None) -> Layer | None:
    """The layer that an anchor with quantized operands is."""
    if node is None or node.op.name not in ("Conv", "Gemm", "MatMul"):
        return None
    x, w = codes_of(node.operands[0]), integers_of(node.operands[1])
    if x is None or w is None or x.value.type.dtype != "uint8":
        return None
    axis = 0 if node.op.name == "Conv" else 1
    sums = np.moveaxis(w.data.astype(np.int64), axis, 0).reshape(len(w.scale), -1).sum(1)
    bias = np.zeros(len(w.scale), np.int64)
    if len(node.operands) > 2:
        b = integers_of(node.operands[2])
        if b is None:
            return None
        bias = bias + b.data.astype(np.int64)
    return Layer(node, x, w.data, w.scale, bias - x.zero * sums)


def build_layer(
    graph: Graph, layer: Layer, epilogue: Epilogue, multiplier: Array, extra: list[Value], at: Node
) -> Value:
    """The QConv or QMatMul node, in front of ``at``."""
    node = layer.node
    op: Any = node.op
    name = node.output.name
    inputs = [
        layer.x.value,
        graph.constant(layer.weights, f"{name}.weight"),
        graph.constant(layer.bias.astype(np.int32), f"{name}.bias"),
        graph.constant(multiplier.astype(np.float32), f"{name}.multiplier"),
        *extra,
    ]
    if op.name == "Conv":
        made: QConv | QMatMul = QConv(
            op.strides, op.pads, op.dilations, op.group, layer.x.zero, epilogue
        )  # fmt: skip
    else:
        made = QMatMul(epilogue=epilogue)
    return graph.add(made, inputs, names=[f"{name}.q"], origin=node.provenance, before=at).output


def plain_layer(graph: Graph, layer: Layer, units: Units, at: Node) -> Value:
    """A layer that requantizes."""
    epilogue = Epilogue(units.dtype, units.zero, units.low, units.high, scale=units.scale)
    return build_layer(graph, layer, epilogue, layer.unit / units.scale, [], at)


def real_layer(graph: Graph, layer: Layer, at: Node) -> Value:
    """A layer whose accumulator becomes reals at once."""
    return build_layer(graph, layer, Epilogue("float32"), layer.unit, [], at)


def residual_layer(
    graph: Graph, layer: Layer, other: Codes, units: Units, at: Node
) -> Value | None:
    """A layer whose epilogue adds ``other``, in fixed point."""
    if units.dtype != "uint8" or other.value.type.dtype != "uint8":
        return None
    ratio = other.scale / units.scale
    reach = float((layer.reach * layer.unit).max()) / units.scale
    shift = residual_shift(reach, ratio, other.top, units.zero)
    multiplier = round(ratio * 2.0**shift)
    constant = (units.zero << shift) - multiplier * other.zero + ((1 << shift) >> 1)
    epilogue = Epilogue(
        units.dtype, units.zero, units.low, units.high, Residual(multiplier, shift, constant),
        scale=units.scale,
    )  # fmt: skip
    return build_layer(
        graph, layer, epilogue, layer.unit / units.scale * 2.0**shift, [other.value], at
    )


def product_of_codes(graph: Graph, node: Node, units: Units | None, at: Node) -> Value | None:
    """A matrix product of two activations; reals where ``units`` is None."""
    a, b = codes_of(node.operands[0]), codes_of(node.operands[1])
    if a is None or b is None or {a.value.type.dtype, b.value.type.dtype} != {"uint8"}:
        return None
    step = a.scale * b.scale
    if units is None:
        epilogue = Epilogue("float32")
    else:
        epilogue = Epilogue(units.dtype, units.zero, units.low, units.high, scale=units.scale)
        step /= units.scale
    name = node.output.name
    multiplier = graph.constant(np.array([step], np.float32), f"{name}.multiplier")
    op = QMatMul(a.zero, b.zero, epilogue)
    inputs = [a.value, b.value, None, multiplier]
    return graph.add(op, inputs, names=[f"{name}.q"], origin=node.provenance, before=at).output


def sum_of_codes(graph: Graph, node: Node, units: Units, at: Node) -> Value | None:
    """Add or Sub of codes: one fixed-point sum."""
    parts = [codes_of(v) for v in node.operands]
    if units.dtype != "uint8" or any(p is None or p.value.type.dtype != "uint8" for p in parts):
        return None
    known = [p for p in parts if p is not None]
    signs = [1.0, -1.0 if node.op.name == "Sub" else 1.0]
    return weighted_sum(graph, known, signs, units, node, at)


def weighted_sum(
    graph: Graph, parts: list[Codes], signs: list[float], units: Units, node: Node, at: Node
) -> Value:
    """``sum(sign * part)`` in new units."""
    ratios = [s * p.scale / units.scale for s, p in zip(signs, parts, strict=False)]
    fixed = fixed_sum(ratios, [p.zero for p in parts], [p.top for p in parts], units.zero)
    op = QSum(
        fixed.multipliers,
        fixed.constant,
        fixed.shift,
        units.low,
        units.high,
        units.scale,
        units.zero,
    )
    values = [p.value for p in parts]
    name = f"{node.output.name}.q"
    return graph.add(op, values, names=[name], origin=node.provenance, before=at).output


def elementwise_product(graph: Graph, node: Node, units: Units, at: Node) -> Value | None:
    """Mul of two tensors of codes."""
    a, b = codes_of(node.operands[0]), codes_of(node.operands[1])
    if a is None or b is None or units.dtype != "uint8":
        return None
    if {a.value.type.dtype, b.value.type.dtype} != {"uint8"}:
        return None
    step = float(np.float32(a.scale * b.scale / units.scale))
    op = QMul(a.zero, b.zero, step, units.zero, units.low, units.high, units.scale)
    name = f"{node.output.name}.q"
    return graph.add(op, [a.value, b.value], names=[name], origin=node.provenance, before=at).output


def average(graph: Graph, node: Node, units: Units, at: Node) -> Value | None:
    """AveragePool and GlobalAveragePool of codes."""
    x = codes_of(node.operands[0])
    if x is None:
        return None
    space = x.value.shape[2:]
    n = len(space)
    if node.op.name == "GlobalAveragePool":
        kernel, strides, pads, ceil = space, (1,) * n, (0,) * 2 * n, False
    else:
        op = node.op
        kernel, strides = op.kernel, op.strides  # type: ignore[attr-defined]
        pads, ceil = op.pads, op.ceil_mode  # type: ignore[attr-defined]
    counts = _counts(space, kernel, strides, pads, node.output.shape[2:])
    multipliers, shift = mean_multipliers(x.scale / units.scale, counts)
    constant = (units.zero << shift) + ((1 << shift) >> 1)
    made = QAveragePool(
        tuple(kernel), tuple(strides), tuple(pads), multipliers, x.zero, constant, shift,
        units.low, units.high, units.scale, units.zero, bool(ceil), units.dtype,
    )  # fmt: skip
    name = f"{node.output.name}.q"
    return graph.add(made, [x.value], names=[name], origin=node.provenance, before=at).output


def interpolation(graph: Graph, node: Node, codes: Value, at: Node) -> Value | None:
    """A linear Resize of codes, which keep their scale."""
    op, before, after = node.op, codes.shape, node.output.shape
    assert isinstance(op, Resize)
    axes = op.moved_axes(before, after)
    if codes.type.dtype != "uint8" or not axes:
        return None if axes else codes
    name, bits, inputs = node.output.name, 22 // len(axes), [codes]
    for axis in axes:
        indices, weights = op.taps(axis, before[axis], after[axis])
        inputs.append(graph.constant(indices.astype(np.int32), f"{name}.indices"))
        inputs.append(graph.constant(fixed_shares(weights, bits), f"{name}.weights"))
    made = QResize(tuple(axes), bits)
    return graph.add(made, inputs, names=[f"{name}.q"], origin=node.provenance, before=at).output


def softmax(graph: Graph, node: Node, at: Node) -> Value | None:
    """Softmax of codes."""
    x = codes_of(node.operands[0])
    if x is None:
        return None
    high, low = exp_tables(x.scale)
    name = node.output.name
    tables = [graph.constant(high, f"{name}.exp_high"), graph.constant(low, f"{name}.exp_low")]
    op = QSoftmax(node.op.axis)  # type: ignore[attr-defined]
    inputs = [x.value, *tables]
    return graph.add(op, inputs, names=[f"{name}.s"], origin=node.provenance, before=at).output


def _counts(
    space: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    outputs: tuple[int, ...],
) -> list[int]:
    """How many elements lie under the window, over all positions."""
    per_axis = []
    for i, (size, k, s, out) in enumerate(zip(space, kernel, strides, outputs, strict=True)):
        starts = np.arange(out) * s - pads[i]
        per_axis.append(np.minimum(starts + k, size) - np.maximum(starts, 0))
    grid = per_axis[0]
    for more in per_axis[1:]:
        grid = np.multiply.outer(grid, more)
    return sorted({int(c) for c in np.unique(grid) if c > 0})
