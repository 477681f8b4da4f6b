"""Quantize and dequantize in standard ONNX.

``QuantizeLinear`` saturates to its dtype; a narrower range of codes is a clip of the reals before.
"""

import numpy as np

from ...ir.graph import Node
from ...ir.ops.quantize import RANGES, Dequantize, DynamicQuantize, Quantize, expand
from ...ir.types import Array
from .emitter import Attribute, Emitter, element_code, operands

_LINEAR = ("uint8", "int8", "uint16", "int16")
_UINT8, _INT32, _FLOAT = (element_code(t) for t in ("uint8", "int32", "float32"))


def quantize(node: Node, emitter: Emitter) -> None:
    """QuantizeLinear; codes of 32 bits are spelled out."""
    op, base = node.op, node.output.name
    assert isinstance(op, Quantize)
    x = operands(node)[0]
    if op.dtype not in _LINEAR:
        _spelled_out(op, node, emitter, x)
        return
    if op.bounds != RANGES[op.dtype]:
        x = _narrow(op, node, emitter, x)
    emitter.node(
        "QuantizeLinear",
        [x, _grid(op.scale, op.axis, np.float32, emitter, base),
         _grid(op.zero_point, op.axis, np.dtype(op.dtype).type, emitter, base)],
        [base],
        _axis(op.axis),
        name=node.name,
    )  # fmt: skip


def dequantize(node: Node, emitter: Emitter) -> None:
    """DequantizeLinear; without a zero point where all are 0 (codes of 32 bits must have none)."""
    op, base = node.op, node.output.name
    assert isinstance(op, Dequantize)
    q = operands(node)[0]
    source = node.operands[0].type.dtype
    out = base if op.dtype == "float32" else emitter.fresh(f"{base}.real")
    ins = [q, _grid(op.scale, op.axis, np.float32, emitter, base)]
    if source != "int32":
        ins.append(_grid(op.zero_point, op.axis, np.dtype(source).type, emitter, base))
    elif any(op.zero_point):
        zero = expand(op.scale, op.zero_point, op.axis, node.output.type.rank)[1]
        ins[0] = emitter.step("Sub", [q, emitter.constant(zero, base)], base)
    emitter.node("DequantizeLinear", ins, [out], _axis(op.axis), name=node.name)
    if out != base:
        emitter.node(
            "Cast", [out], [base], {"to": element_code(op.dtype)}, name=f"{node.name}.cast"
        )


def dynamic_quantize(node: Node, emitter: Emitter) -> None:
    """The op's formula in standard ops: one scale and zero point per leading index."""
    op, base = node.op, node.output.name
    assert isinstance(op, DynamicQuantize)
    x, t = operands(node)[0], node.operands[0].type
    q, scale, zero_point = (v.name for v in node.outputs)
    axes = emitter.ints(range(op.axis % t.rank, t.rank), base)

    def number(v: float) -> str:
        return emitter.constant(np.asarray(v, np.float32), base)

    low = emitter.step("Min", [emitter.step("ReduceMin", [x, axes], base), number(0)], base)
    high = emitter.step("Max", [emitter.step("ReduceMax", [x, axes], base), number(0)], base)
    raw = emitter.step("Div", [emitter.step("Sub", [high, low], base), number(255)], base)
    positive = emitter.step("Greater", [raw, number(0)], base)
    emitter.node("Where", [positive, raw, number(1)], [scale], name=scale)
    steps = emitter.step("Div", [emitter.step("Neg", [low], base), scale], base)
    zero = emitter.step("Round", [steps], base)
    zero = emitter.step("Clip", [zero, number(0), number(255)], base)
    emitter.node("Cast", [zero], [zero_point], {"to": _UINT8}, name=zero_point)
    codes = emitter.step("Round", [emitter.step("Div", [x, scale], base)], base)
    codes = emitter.step("Add", [codes, zero], base)
    codes = emitter.step("Clip", [codes, number(0), number(255)], base)
    emitter.node("Cast", [codes], [q], {"to": _UINT8}, name=node.name)


def dynamic_dequantize(node: Node, emitter: Emitter) -> None:
    """The op's formula in standard ops; the scale may differ by leading index."""
    base = node.output.name
    q, scale, zero = (
        emitter.step("Cast", [name], base, {"to": _INT32}) if i != 1 else name
        for i, name in enumerate(operands(node))
    )
    exact = emitter.step("Sub", [q, zero], base)
    real = emitter.step("Cast", [exact], base, {"to": _FLOAT})
    emitter.node("Mul", [real, scale], [base], name=node.name)


def _axis(axis: int | None) -> dict[str, Attribute]:
    return {} if axis is None else {"axis": axis}


def _grid(
    values: tuple[float, ...] | tuple[int, ...],
    axis: int | None,
    dtype: type[np.generic],
    emitter: Emitter,
    base: str,
) -> str:
    array: Array = np.asarray(values, dtype)
    return emitter.constant(array.reshape(()) if axis is None else array, base)


def _narrow(op: Quantize, node: Node, emitter: Emitter, x: str) -> str:
    """The reals between those of the least and the greatest code."""
    base, rank = node.output.name, node.output.type.rank
    scale, zero = expand(op.scale, op.zero_point, op.axis, rank)
    low, high = ((np.subtract(code, zero) * scale).astype(np.float32) for code in op.bounds)
    floor = emitter.step("Max", [x, emitter.constant(low, base)], base)
    return emitter.step("Min", [floor, emitter.constant(high, base)], base)


def _spelled_out(op: Quantize, node: Node, emitter: Emitter, x: str) -> None:
    base, rank = node.output.name, node.output.type.rank
    scale, zero = expand(op.scale, op.zero_point, op.axis, rank)
    q = emitter.step("Round", [emitter.step("Div", [x, emitter.constant(scale, base)], base)], base)
    wide = emitter.step("Cast", [q], base, {"to": element_code("float64")})
    moved = emitter.step("Add", [wide, emitter.constant(zero.astype(np.float64), base)], base)
    bounds = [emitter.constant(np.asarray(b, np.float64), base) for b in op.bounds]
    clipped = emitter.step("Clip", [moved, *bounds], base)
    emitter.node("Cast", [clipped], [base], {"to": element_code(op.dtype)}, name=node.name)
