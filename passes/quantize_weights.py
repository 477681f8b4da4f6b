"""Weights and biases of a layer as dequantized integers."""

from dataclasses import dataclass

import numpy as np

from ..ir.errors import PreconditionError, nearest
from ..ir.graph import Graph, Node, Value
from ..ir.ops.quantize import Dequantize
from ..ir.types import Array, PerAxis, Quantization, TensorType
from .grid import grid_step
from .linear import Linear
from .moments import Moments
from .rounding import balanced, second_order

ROUNDINGS = ("nearest", "squant", "gptq")


@dataclass(frozen=True)
class WeightCodes:
    """How weights become integers: 2 to 8 bits, and the rounding.

    ``gptq`` uses the moments of a layer's inputs; where there are none ``squant`` takes its place.
    """

    bits: int = 8
    rounding: str = "gptq"

    def check(self, name: str) -> None:
        """``PreconditionError`` for widths that int8 cannot hold and unknown roundings."""
        if not 2 <= self.bits <= 8:
            raise PreconditionError(f"{name}.weight_bits = {self.bits} must be from 2 to 8")
        if self.rounding not in ROUNDINGS:
            hint = nearest(self.rounding, ROUNDINGS)
            raise PreconditionError(f"{name} has no rounding {self.rounding!r}; {hint}")


def channel_axis(node: Node) -> int:
    """The axis of the weights that runs over output channels."""
    return 0 if node.op.name == "Conv" else 1


def quantize_weights(
    graph: Graph,
    node: Node,
    input_scale: float,
    how: WeightCodes,
    moments: Moments | None = None,
) -> None:
    """Replace weights and bias of an anchor by dequantized integers.

    With ``moments`` of its inputs what the rounding changes on average goes into the bias.
    """
    layer, top = Linear(node), 2 ** (how.bits - 1) - 1
    w, b = layer.weights(), layer.bias()
    rows = w.reshape(*w.shape[:2], -1)
    flat = rows.reshape(-1, rows.shape[-1])
    scale = weight_scales(flat, b, input_scale, how.bits)
    steps = scale.reshape(rows.shape[:2])
    if how.rounding == "gptq" and moments is not None:
        spread = moments.covariance if layer.takes_bias else moments.second
        codes = second_order(rows, steps, spread, moments.count, top)
    elif how.rounding == "nearest":
        codes = np.rint(rows / steps[..., None])
    else:
        codes = balanced(flat / scale[:, None], w.shape[3]).reshape(rows.shape)
    codes = np.clip(codes, -top, top)
    if moments is not None and layer.takes_bias:
        lost = np.einsum("gok,gk->go", codes * steps[..., None] - rows, moments.mean).ravel()
        b = -lost if b is None else b - lost
    q = layer.shaped(codes.reshape(w.shape)).astype(np.int8)
    axis = channel_axis(node)
    names = [v.name for v in node.operands[1:]]
    inputs = [node.inputs[0], _dequantized(graph, node, names[0], q, scale, axis)]
    if b is not None:
        unit = np.asarray(scale * input_scale, np.float32)
        whole = np.rint(b / unit).astype(np.int32)
        name = (names[1:] or [f"{node.output.name}.bias"])[0]
        inputs.append(_dequantized(graph, node, name, whole, unit, 0))
    graph.set_inputs(node, inputs)


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
