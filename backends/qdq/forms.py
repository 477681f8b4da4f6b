"""How each op is written in ONNX: one table for the ops whose form is not just their fields."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
from onnx import numpy_helper

from ...ir import ops
from ...ir.errors import BackendError
from ...ir.graph import Node
from ...ir.ops.control import Control
from ...ir.ops.hadamard import rotation
from ...ir.ops.integer import IntegerOp
from ...ir.ops.recurrent import Recurrent
from ...ir.ops.reduce import Reduce
from .emitter import Attribute, Emitter, element_code, operands
from .enclosed import control
from .encoded import decode, encode
from .operands import (
    col2im,
    cropped_resize,
    dft,
    eye_like,
    max_pool_indices,
    max_unpool,
    mel_weight_matrix,
    stft,
)  # fmt: skip
from .quantized import dequantize, dynamic_dequantize, dynamic_quantize, quantize
from .scan import selective_scan

Form = Callable[[Node, Emitter], None]

_NEWER = ops.BitCast | ops.CumProd | ops.TensorScatter
"""Ops of opsets that other tools do not take yet."""

_NAMES = {"trans_a": "transA", "trans_b": "transB", "kernel": "kernel_shape"}


def write(node: Node, emitter: Emitter) -> None:
    """Append the ONNX form of ``node``."""
    form = FORMS.get(type(node.op))
    if form is not None:
        form(node, emitter)
    elif isinstance(node.op, Reduce):
        _reduce(node, emitter)
    elif isinstance(node.op, Control):
        control(node, emitter)
    elif isinstance(node.op, Recurrent):
        _without_empty(node, emitter)
    elif isinstance(node.op, IntegerOp | ops.Late | _NEWER):
        raise BackendError(f"{node.name!r}: {node.op.name} has no standard ONNX form")
    else:
        plain(node, emitter)


def plain(node: Node, emitter: Emitter, kind: str = "", leave_out: Sequence[str] = ()) -> None:
    """A node with our fields as its attributes."""
    attributes = {
        _NAMES.get(f.name, f.name): _plain(getattr(node.op, f.name), f.default)
        for f in fields(node.op)
        if getattr(node.op, f.name) is not None and f.name not in leave_out
    }
    _finish(node, emitter, operands(node), attributes, kind)


def _average_pool(node: Node, emitter: Emitter) -> None:
    """Dilations only where there are any: onnxruntime's integer pooling does not know them."""
    assert isinstance(node.op, ops.AveragePool)
    dilated = any(d != 1 for d in node.op.dilations)
    plain(node, emitter, leave_out=() if dilated else ("dilations",))


def _plain(value: object, default: object = None) -> Attribute:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and isinstance(default, float):
        return float(value)
    if isinstance(value, int | float | str | tuple):
        return value
    raise BackendError(f"{value!r} is no ONNX attribute")


def _finish(
    node: Node,
    emitter: Emitter,
    ins: list[str],
    attributes: dict[str, Attribute] | None = None,
    kind: str = "",
) -> None:
    outs = [v.name for v in node.outputs]
    emitter.node(kind or node.op.name, ins, outs, attributes, name=node.name)


def _with_ints(field: str) -> Form:
    """The operand and one vector of integers, an attribute of ours."""

    def form(node: Node, emitter: Emitter) -> None:
        value = getattr(node.op, field)
        ins = operands(node)
        if len(ins) < 2 and value is not None:
            ins = [ins[0], emitter.ints(value, node.output.name)]
        _finish(node, emitter, ins)

    return form


def _reshape(node: Node, emitter: Emitter) -> None:
    op, ins = node.op, operands(node)
    assert isinstance(op, ops.Reshape)
    if len(ins) < 2:
        assert op.shape is not None
        ins = [ins[0], emitter.ints([d for d in op.shape if isinstance(d, int)], node.output.name)]
    _finish(node, emitter, ins, {"allowzero": int(op.allowzero)})


def _reduce(node: Node, emitter: Emitter) -> None:
    op, ins = node.op, operands(node)
    assert isinstance(op, Reduce)
    if op.axes is not None:
        ins.append(emitter.ints(op.axes, node.output.name))
    _finish(node, emitter, ins, {"keepdims": int(op.keepdims)})


def _cast(node: Node, emitter: Emitter) -> None:
    assert isinstance(node.op, ops.Cast)
    _finish(node, emitter, operands(node), {"to": element_code(node.op.to)})


def _clip(node: Node, emitter: Emitter) -> None:
    op, ins = node.op, operands(node)
    assert isinstance(op, ops.Clip)
    dtype = node.output.type.dtype
    for bound in (op.min, op.max):
        ins.append(
            "" if bound is None else emitter.constant(np.asarray(bound, dtype), node.output.name)
        )
    _finish(node, emitter, ins)


def _silu(node: Node, emitter: Emitter) -> None:
    x = operands(node)[0]
    gate = emitter.step("Sigmoid", [x], node.output.name)
    _finish(node, emitter, [x, gate], None, "Mul")


def _gemm(node: Node, emitter: Emitter) -> None:
    """Of a matrix itself; of more axes a product and a sum, since ONNX's takes matrices only."""
    op, (a, b, *rest), base = node.op, operands(node), node.output.name
    assert isinstance(op, ops.Gemm)
    if node.operands[0].type.rank == 2:
        plain(node, emitter)
        return
    dtype = node.output.type.dtype
    if op.trans_b:
        b = emitter.step("Transpose", [b], base)
    if not rest and op.alpha == 1:
        _finish(node, emitter, [a, b], None, "MatMul")
        return
    y = emitter.step("MatMul", [a, b], base)
    if op.alpha != 1:
        y = emitter.step("Mul", [y, emitter.constant(np.asarray(op.alpha, dtype), base)], base)
    if rest and op.beta != 1:
        beta = emitter.constant(np.asarray(op.beta, dtype), base)
        rest = [emitter.step("Mul", [rest[0], beta], base)]
    _finish(node, emitter, [y, *rest], None, "Add" if rest else "Identity")


def _hadamard(node: Node, emitter: Emitter) -> None:
    x = node.operands[0]
    matrix = rotation(x.shape[-1]).astype(x.type.dtype)
    _finish(node, emitter, [x.name, emitter.constant(matrix, node.output.name)], None, "MatMul")


def _split(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.Split)
    ins = [*operands(node), emitter.ints(op.sizes, node.output.name)]
    _finish(node, emitter, ins, {"axis": op.axis})


def _slice(node: Node, emitter: Emitter) -> None:
    op, ins, base = node.op, operands(node), node.output.name
    assert isinstance(op, ops.Slice)
    if op.starts is not None and op.ends is not None:
        axes = tuple(range(len(op.starts))) if op.axes is None else op.axes
        steps = (1,) * len(op.starts) if op.steps is None else op.steps
        ins += [emitter.ints(v, base) for v in (op.starts, op.ends, axes, steps)]
    _finish(node, emitter, ins)


def _pad(node: Node, emitter: Emitter) -> None:
    op, ins, base = node.op, operands(node), node.output.name
    assert isinstance(op, ops.Pad)
    if op.pads is not None:
        ins.append(emitter.ints(op.pads, base))
    if op.mode == "constant":
        ins.append(emitter.constant(np.asarray(op.value, node.output.type.dtype), base))
    _finish(node, emitter, ins, {"mode": op.mode})


def _constant_of_shape(node: Node, emitter: Emitter) -> None:
    op, ins = node.op, operands(node)
    assert isinstance(op, ops.ConstantOfShape)
    if not ins:
        assert op.shape is not None
        ins = [emitter.ints([d for d in op.shape if isinstance(d, int)], node.output.name)]
    value = numpy_helper.from_array(np.asarray([op.value], op.dtype))
    _finish(node, emitter, ins, {"value": value})


def _resize(node: Node, emitter: Emitter) -> None:
    op, ins, base = node.op, operands(node), node.output.name
    assert isinstance(op, ops.Resize)
    x, scales, sizes = ins[0], "", ""
    axes: tuple[int, ...] | None = None
    if op.scales is not None:
        scales = emitter.constant(np.asarray(op.scales, np.float32), base)
    elif op.sizes is not None:
        axes = tuple(i for i, s in enumerate(op.sizes) if s != -1)
        sizes = emitter.ints([op.sizes[i] for i in axes], base)
    elif (target := node.inputs[1]) is not None:
        scales, sizes = (target.name, "") if target.type.is_float else ("", target.name)
    attributes: dict[str, Attribute] = {
        "mode": op.mode,
        "coordinate_transformation_mode": op.coordinate_transformation_mode,
        "nearest_mode": op.nearest_mode,
        "cubic_coeff_a": op.cubic_coeff_a,
        "exclude_outside": int(op.exclude_outside),
        "antialias": int(op.antialias),
    }
    if axes is not None and op.sizes is not None and len(axes) < len(op.sizes):
        attributes["axes"] = axes
    _finish(node, emitter, [x, "", scales, sizes], attributes)


def _top_k(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.TopK)
    ins = [*operands(node), emitter.ints([op.k], node.output.name)]
    flags: dict[str, Attribute] = {
        "axis": op.axis, "largest": int(op.largest), "sorted": int(op.sorted),
    }  # fmt: skip
    _finish(node, emitter, ins, flags)


def _one_hot(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.OneHot)
    indices, values = operands(node)
    depth = emitter.constant(np.asarray(op.depth, np.int64), node.output.name)
    _finish(node, emitter, [indices, depth, values], {"axis": op.axis})


def _cum_sum(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.CumSum)
    axis = emitter.constant(np.asarray(op.axis, np.int64), node.output.name)
    flags: dict[str, Attribute] = {"exclusive": int(op.exclusive), "reverse": int(op.reverse)}
    _finish(node, emitter, [*operands(node), axis], flags)


def _trilu(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.Trilu)
    k = emitter.constant(np.asarray(op.k, np.int64), node.output.name)
    _finish(node, emitter, [*operands(node), k], {"upper": int(op.upper)})


def _quantize_linear(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.QuantizeLinear)
    attributes: dict[str, Attribute] = {
        "axis": op.axis,
        "block_size": op.block_size,
        "output_dtype": element_code(op.dtype),
        "saturate": int(op.saturate),
    }
    _finish(node, emitter, operands(node), attributes)


def _space_to_depth(node: Node, emitter: Emitter) -> None:
    """The mode is an attribute since opset 28."""
    assert isinstance(node.op, ops.SpaceToDepth)
    if node.op.mode != "DCR":
        raise BackendError(f"{node.name!r}: mode {node.op.mode!r} needs opset 28")
    plain(node, emitter, leave_out=("mode",))


def _without_empty(node: Node, emitter: Emitter) -> None:
    """Lists without elements are left out: their type could not be told."""
    empty = [name for name, value in vars(node.op).items() if value == ()]
    plain(node, emitter, leave_out=empty)


def _opaque(node: Node, emitter: Emitter) -> None:
    op = node.op
    assert isinstance(op, ops.Opaque)
    settings = {k: _plain(v) for k, v in op.settings}
    outs = [v.name for v in node.outputs]
    emitter.node(op.kind, operands(node), outs, settings, op.source_domain, node.name)


FORMS: dict[type[ops.Op], Form] = {
    ops.AveragePool: _average_pool,
    ops.Cast: _cast,
    ops.Clip: _clip,
    ops.Col2Im: col2im,
    ops.ConstantOfShape: _constant_of_shape,
    ops.CroppedResize: cropped_resize,
    ops.CumSum: _cum_sum,
    ops.DFT: dft,
    ops.Decode: decode,
    ops.Dequantize: dequantize,
    ops.DynamicDequantize: dynamic_dequantize,
    ops.DynamicQuantize: dynamic_quantize,
    ops.Encode: encode,
    ops.Expand: _with_ints("shape"),
    ops.EyeLike: eye_like,
    ops.Gemm: _gemm,
    ops.Hadamard: _hadamard,
    ops.MaxPoolIndices: max_pool_indices,
    ops.MaxUnpool: max_unpool,
    ops.MelWeightMatrix: mel_weight_matrix,
    ops.OneHot: _one_hot,
    ops.Opaque: _opaque,
    ops.Pad: _pad,
    ops.Quantize: quantize,
    ops.QuantizeLinear: _quantize_linear,
    ops.Reshape: _reshape,
    ops.Resize: _resize,
    ops.STFT: stft,
    ops.SelectiveScan: selective_scan,
    ops.Silu: _silu,
    ops.Slice: _slice,
    ops.SpaceToDepth: _space_to_depth,
    ops.Split: _split,
    ops.Squeeze: _with_ints("axes"),
    ops.Tile: _with_ints("repeats"),
    ops.StringNormalizer: _without_empty,
    ops.TopK: _top_k,
    ops.Trilu: _trilu,
    ops.Unsqueeze: _with_ints("axes"),
}
