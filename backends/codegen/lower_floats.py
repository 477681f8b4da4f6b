"""Float convolutions and products with constant weights, by the float template."""

import math
from typing import Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Node, Value
from ...ir.types import Array
from . import kernels as kernel
from .arrange import needed_pads
from .layout import LANES
from .lower import Lowering
from .lower_products import Tail, Window, call_conv, call_matrix, pair, template_target


def lower_conv(low: Lowering, node: Node) -> None:
    """``Conv``: like ``QConv``, in float32."""
    op: Any = node.op
    w = _floats(node.operands[1], node)
    if w.ndim > 4:
        raise BackendError(f"node {node.name!r}: Conv over {w.ndim - 2} axes cannot be compiled")
    pads = needed_pads(node)
    depthwise = op.group == w.shape[0] == node.operands[0].shape[1] > 1
    source = low.as_image(low.place(node.operands[0]), pads, 0, LANES if depthwise else 1)
    bias: Array = np.zeros(w.shape[0], np.float32)
    if len(node.operands) > 2:
        bias = _floats(node.operands[2], node)
    result, epilogue = _clamped(low, node)
    tail = Tail(epilogue, bias, None)
    target = low.result(result, LANES)
    window = Window(pair(w.shape[2:], 1), pair(op.strides, 1), pair(op.dilations, 1))
    out = template_target(low, result, target)
    w = w.reshape(*w.shape[:2], *window.kernel)
    call_conv(low, w, op.group, source, pads, out, tail, window)
    if out is not target:
        low.copy(out, target)


def lower_matmul(low: Lowering, node: Node) -> None:
    """``MatMul`` with constant weights by the template, else by the generic kernel."""
    a, b = node.operands
    if b.data is not None and b.type.rank == 2 and a.type.rank >= 2:
        _product(low, node, _floats(b, node).T, np.zeros(b.shape[1], np.float32))
    else:
        _generic(low, node)


def lower_gemm(low: Lowering, node: Node) -> None:
    """``Gemm`` with constant weights and a bias per column by the template, else generic."""
    op: Any = node.op
    b, c = node.operands[1], node.operands[2] if len(node.operands) > 2 else None
    columns = node.output.shape[-1]
    plain = c is None or (c.data is not None and c.type.size in (1, columns))
    rows = c is None or c.type.rank < 2 or c.shape[0] == 1
    if b.data is None or op.trans_a or not plain or not rows:
        _generic(low, node)
        return
    w = _floats(b, node) if op.trans_b else _floats(b, node).T
    bias: Array = np.zeros(columns, np.float32)
    if c is not None:
        scaled = np.multiply(_floats(c, node).reshape(-1), np.float32(op.beta))
        bias = np.broadcast_to(scaled, (columns,))
    _product(low, node, np.multiply(w, np.float32(op.alpha)), bias)


def _clamped(low: Lowering, node: Node) -> tuple[Value, kernel.FloatEpilogue]:
    """The result of ``node`` with the clamp that alone reads it, and what clamps."""
    clamp = low.graph.sole_use(node.output)
    if clamp is None or clamp.op.name not in ("Relu", "Clip"):
        return node.output, kernel.FloatEpilogue()
    low.fused.add(id(clamp))
    if clamp.op.name == "Relu":
        return clamp.output, kernel.FloatEpilogue(low=0.0)
    op: Any = clamp.op
    bottom = -math.inf if op.min is None else float(np.float32(op.min))
    top = math.inf if op.max is None else float(np.float32(op.max))
    return clamp.output, kernel.FloatEpilogue(bottom, top)


def _product(low: Lowering, node: Node, w: Array, bias: Array) -> None:
    result, epilogue = _clamped(low, node)
    call_matrix(low, node, w, Tail(epilogue, bias, None), low.result(result, LANES), result)


def _generic(low: Lowering, node: Node) -> None:
    for value in (*node.operands, node.output):
        if value.type.rank < 2 and node.op.name == "MatMul":
            raise BackendError(f"node {node.name!r}: MatMul of a vector cannot be compiled")
    low.generic(node.op, [low.place(v) for v in node.operands], [low.result(node.output)])


def _floats(value: Value, node: Node) -> Array:
    if value.data is None:
        why = "an input of the network: is its initializer missing from the file?"
        why = "computed at run time" if value.producer is not None else why
        raise BackendError(f"node {node.name!r}: its weights %{value.name} are {why}")
    return value.data.astype(np.float32)
