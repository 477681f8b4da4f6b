"""Ops with numbers per channel, whose vectors become broadcast operands, and those without."""

from typing import Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Node
from ...ir.ops.integer import QTable
from ...ir.types import Array
from .affine import Affine
from .layout import Strided
from .lower import Lowering, Place


def lower_batchnorm(low: Lowering, node: Node) -> None:
    """Constant statistics make it a multiply-add per channel."""
    op: Any = node.op
    x = node.operands[0]
    data: list[Array] = []
    for value in node.operands[1:5]:
        if value.data is None:
            raise BackendError(f"node {node.name!r}: BatchNormalization needs constant statistics")
        data.append(value.data.astype(np.float64))
    scale, bias, mean, var = data
    factor = scale / np.sqrt(var + op.epsilon)
    vectors = [factor, bias - mean * factor]
    places = [_along(low.constant(v.astype(np.float32)), 1, x.type.rank) for v in vectors]
    low.generic(Affine(), [low.place(x), *places], [low.result(node.output)])


def lower_dequantize_accumulator(low: Lowering, node: Node) -> None:
    """The vectors of the weights stand along the channel axis."""
    op: Any = node.op
    rank = node.operands[0].type.rank
    places = [low.place(v) for v in node.operands]
    vectors = [_along(p, op.axis % rank, rank) for p in places[3:]]
    low.generic(op, [*places[:3], *vectors], [low.result(node.output)])


def lower_codes(low: Lowering, node: Node) -> None:
    """``Quantize`` and ``Dequantize`` by one scale."""
    op: Any = node.op
    if op.axis is not None:
        raise BackendError(
            f"node {node.name!r}: {op.name} with a scale per index of axis {op.axis} cannot be "
            "compiled; only constants have such scales"
        )
    low.generic(op, [low.place(node.operands[0])], [low.result(node.output)])


def lower_table(low: Lowering, node: Node) -> None:
    """One kernel for all tables of a shape: scale and zero point only name the result's type."""
    ins = [low.place(value) for value in node.operands]
    low.generic(QTable(), ins, [low.result(node.output)])


def _along(place: Place, axis: int, rank: int) -> Place:
    """A vector as a tensor of ``rank`` axes, of length 1 but for ``axis``."""
    shape = tuple(place.view.size if i == axis else 1 for i in range(rank))
    strides = tuple(1 if i == axis else 0 for i in range(rank))
    return place.viewed(Strided(place.view.dtype, shape, strides))
