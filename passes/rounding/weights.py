"""Weights and biases of a layer as dequantized integers."""

from dataclasses import dataclass

import numpy as np

from ...ir.errors import PreconditionError, nearest
from ...ir.graph import Graph, Node, Value
from ...ir.ops.quantize import Dequantize
from ...ir.types import Array, PerAxis, Quantization, TensorType
from ..linear import Linear
from ..statistics.moments import Moments
from .grid import grid_step
from .second_order import BEST, ORDERS, balanced, second_order

ROUNDINGS = ("nearest", "squant", "gptq", "feedback")


@dataclass(frozen=True)
class WeightCodes:
    """How weights become integers: 2 to 8 bits, and the rounding.

    ``gptq`` uses the moments of a layer's inputs; where there are none ``squant`` takes its place.
    ``feedback`` rounds layer after layer (see ``feedback``); where it cannot, ``gptq`` does.
    ``order``: of the columns for both (see ``second_order``).
    """

    bits: int = 8
    rounding: str = "gptq"
    order: str = "activation"

    @property
    def top(self) -> int:
        """The greatest code; the least is its negative."""
        return int(2 ** (self.bits - 1) - 1)

    def check(self, name: str) -> None:
        """``PreconditionError`` for widths that int8 cannot hold and unknown roundings."""
        if not 2 <= self.bits <= 8:
            raise PreconditionError(f"{name}.weight_bits = {self.bits} must be from 2 to 8")
        if self.rounding not in ROUNDINGS:
            hint = nearest(self.rounding, ROUNDINGS)
            raise PreconditionError(f"{name} has no rounding {self.rounding!r}; {hint}")
        if self.order not in (*ORDERS, BEST):
            hint = nearest(self.order, (*ORDERS, BEST))
            raise PreconditionError(f"{name} has no order {self.order!r}; {hint}")


def input_scale(node: Node) -> float:
    """The scale of the codes that a layer reads."""
    value = node.operands[0]
    op = value.producer.op if value.producer is not None else None
    assert isinstance(op, Dequantize)
    return op.scale[0]


def channel_axis(node: Node) -> int:
    """The axis of the weights that runs over output channels."""
    return 0 if node.op.name == "Conv" else 1


@dataclass(frozen=True)
class Rounded:
    """A layer's weights as integers (in the layout of ``Linear.weights``) times a step per output.

    ``steps`` float64 ``[outputs]``, exact in float32; ``bias`` float64 ``[outputs]`` or None.
    """

    codes: Array
    steps: Array
    bias: Array | None

    @property
    def real(self) -> Array:
        """The weights that the integers stand for."""
        return np.asarray(self.codes * self.steps.reshape(*self.codes.shape[:2], 1, 1))

    def write(self, graph: Graph, node: Node, unit: float) -> None:
        """Replace weights and bias of an anchor, whose input has a scale ``unit``, by integers."""
        layer, axis, scale = Linear(node), channel_axis(node), self.steps
        q = layer.shaped(self.codes).astype(np.int8)
        names = [v.name for v in node.operands[1:]]
        inputs = [node.inputs[0], _dequantized(graph, node, names[0], q, scale, axis)]
        if self.bias is not None:
            units = np.asarray(scale * unit, np.float32)
            whole = np.rint(self.bias / units).astype(np.int32)
            name = (names[1:] or [f"{node.output.name}.bias"])[0]
            inputs.append(_dequantized(graph, node, name, whole, units, 0))
        graph.set_inputs(node, inputs)


def rounded(
    layer: Linear, unit: float, how: WeightCodes, moments: Moments | None = None
) -> Rounded:
    """A layer's weights rounded on their own; its input has a scale ``unit``.

    With ``moments`` of its inputs what the rounding changes on average goes into the bias.
    """
    top = how.top
    w, b = layer.weights(), layer.bias()
    rows = w.reshape(*w.shape[:2], -1)
    flat = rows.reshape(-1, rows.shape[-1])
    scale = weight_scales(flat, b, unit, how.bits)
    steps = scale.reshape(rows.shape[:2])
    if how.rounding in ("gptq", "feedback") and moments is not None:
        spread = moments.covariance if layer.takes_bias else moments.second
        codes = second_order(rows, steps, spread, moments.count, top, how.order)
    elif how.rounding == "nearest":
        codes = np.rint(rows / steps[..., None])
    else:
        codes = balanced(flat / scale[:, None], w.shape[3]).reshape(rows.shape)
    codes = np.clip(codes, -top, top)
    if moments is not None and layer.takes_bias:
        lost = np.einsum("gok,gk->go", codes * steps[..., None] - rows, moments.mean).ravel()
        b = -lost if b is None else b - lost
    return Rounded(codes.reshape(w.shape), scale, b)


def weight_scales(rows: Array, bias: Array | None, input_scale: float, bits: int) -> Array:
    """Float32 scale per output channel; large enough that the bias fits well inside int32.

    Rows that lie on a grid already (weights of a network trained with quantization and then
    dequantized) keep it where the codes reach that far, and so lose nothing.
    """
    top = 2 ** (bits - 1) - 1
    reach = np.abs(rows).max(1, initial=0.0)
    scale = reach / top
    step = grid_step(rows)
    if step is not None:
        steps = np.rint(reach / step)
        fits = (steps > 0) & (steps <= top)
        scale[fits] = step / (top // steps[fits])
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias) / (input_scale * 2.0**29))
    scale = np.where(scale > 0, scale, 1.0)
    return np.maximum(scale.astype(np.float32), np.finfo(np.float32).tiny).astype(np.float64)


def _dequantized(
    graph: Graph, node: Node, name: str, codes: Array, scale: Array, axis: int
) -> Value:
    scales = tuple(float(s) for s in np.asarray(scale, np.float32))
    zeros = (0,) * len(scales)
    quant = Quantization(scales, zeros, PerAxis(axis))
    typed = TensorType(codes.dtype.name, tuple(codes.shape), quant)
    constant = graph.constant(codes, f"{name}.q", typed)
    op = Dequantize(scales, zeros, axis)
    return graph.add(op, [constant], names=[f"{name}.d"], before=node).output
