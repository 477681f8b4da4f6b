"""The computation of a workload as naive TIR, which says what is computed and nothing of how.

Two blocks over strided buffers: ``acc`` sums in int32, ``y`` is the epilogue. Schedules, as traces
of TVM's MetaSchedule, make kernels of it; they know blocks and loops by these names and this order.
"""

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as I

from .conv import ConvWorkload, collapse
from .depthwise_plan import DepthwiseWorkload
from .epilogue import Epilogue
from .isa import Expr
from .view import View

NAME = "main"
"""What schedules call the function."""


def plain(workload: ConvWorkload) -> Any:
    """The PrimFunc of an integer workload: the operands of its signature without the range.

    Weights are ``[h, w, inputs, outputs]``, of depthwise convolutions ``[h, w, channels]``.
    """
    workload = collapse(workload)
    epilogue = workload.epilogue
    assert isinstance(epilogue, Epilogue), "sums of reals depend on their order"
    with IRBuilder() as builder, I.prim_func(s_tir=True):
        I.func_name(NAME)
        I.func_attr({"global_symbol": NAME, "tirx.noalias": True})
        x = _image("x", workload.x)
        weights = _array("w", weights_shape(workload), "int8")
        bias = _array("bias", (workload.y.channels,), "int32")
        multiplier = _array("multiplier", (workload.y.channels,), "float32")
        residual = _image("residual", workload.residual) if workload.residual else None
        table = _array("table", (256,), "uint8") if epilogue.table else None
        y = _image("y", workload.y)
        shape = (workload.y.height, workload.y.width, workload.y.channels)
        acc = I.sblock_alloc_buffer(shape, "int32")
        _sum(workload, acc, x, weights, bias)
        with I.grid(*shape) as loops, I.sblock("y"):
            at = I.axis.remap("SSS", loops)
            I.reads(acc[tuple(at)], multiplier[at[2]])
            I.writes(y[tuple(at)])
            code = None if residual is None else residual[tuple(at)]
            value = finished(epilogue, acc[tuple(at)], multiplier[at[2]], code, table)
            I.buffer_store(y, value, list(at))
    return builder.get()


def weights_shape(workload: ConvWorkload) -> tuple[int, ...]:
    """Of the packed weights, with physical channels."""
    if isinstance(workload, DepthwiseWorkload):
        return (*workload.kernel, workload.y.channels)
    return (*workload.kernel, workload.x.channels, workload.y.channels)


def finished(epilogue: Epilogue, acc: Expr, scale: Expr, code: Expr, table: Expr) -> Expr:
    """The epilogue of one accumulator, as its docstring says; ``code``: the residual's."""
    if epilogue.dtype == "int32":
        return acc
    value = tirx.Cast("float32", acc) * scale
    if epilogue.dtype == "float32":
        return value
    low, high = epilogue.low, epilogue.high
    if (r := epilogue.residual) is not None:
        total = tirx.Cast("int32", tirx.nearbyint(value)) + tirx.Cast("int32", code) * r.multiplier
        total = tirx.shift_right(total + r.constant, tirx.const(r.shift, "int32"))
        clamped = tirx.max(tirx.min(total, tirx.const(high, "int32")), tirx.const(low, "int32"))
    else:
        bounds = (tirx.const(float(b - epilogue.zero_point), "float32") for b in (low, high))
        least, greatest = bounds
        value = tirx.nearbyint(tirx.max(tirx.min(value, greatest), least))
        clamped = tirx.Cast("int32", value) + epilogue.zero_point
    return table[clamped] if epilogue.table else tirx.Cast(epilogue.dtype, clamped)


def _sum(workload: ConvWorkload, acc: Expr, x: Expr, weights: Expr, bias: Expr) -> None:
    """Emit the block ``acc``; sums start at the bias."""
    y, (down, right), (apart_h, apart_w) = workload.y, workload.strides, workload.dilations
    depthwise = isinstance(workload, DepthwiseWorkload)
    reduced = workload.kernel if depthwise else (*workload.kernel, workload.x.channels)
    kinds = "SSS" + "R" * len(reduced)
    with I.grid(y.height, y.width, y.channels, *reduced) as loops, I.sblock("acc"):
        row, column, channel, *taps = I.axis.remap(kinds, loops)
        at = (row, column, channel)
        place = (row * down + taps[0] * apart_h, column * right + taps[1] * apart_w)
        source = x[(*place, channel if depthwise else taps[2])]
        weight = weights[(*taps, channel)]
        I.reads(source, weight, bias[channel])
        I.writes(acc[at])
        with I.init():
            I.buffer_store(acc, bias[channel], list(at))
        product = tirx.Cast("int32", source) * tirx.Cast("int32", weight)
        I.buffer_store(acc, acc[at] + product, list(at))


def _image(name: str, view: View) -> Expr:
    shape, strides = (view.height, view.width, view.channels), (view.row_stride, view.pixel_stride)
    return I.arg(name, I.buffer(shape, view.dtype, strides=[*strides, 1]))


def _array(name: str, shape: tuple[int, ...], dtype: str) -> Expr:
    return I.arg(name, I.buffer(shape, dtype))
