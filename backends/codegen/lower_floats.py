"""Float convolutions and products with constant weights, by the float template."""

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
    tail = Tail(kernel.FloatEpilogue(), bias, None)
    target = low.result(node.output, LANES)
    window = Window(pair(w.shape[2:], 1), pair(op.strides, 1), pair(op.dilations, 1))
    out = template_target(low, node.output, target)
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


def _product(low: Lowering, node: Node, w: Array, bias: Array) -> None:
    target = low.result(node.output, LANES)
    tail = Tail(kernel.FloatEpilogue(), bias, None)
    call_matrix(low, node, w, tail, target)


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
