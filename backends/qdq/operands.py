"""Ops whose attributes are operands in ONNX, or have other names there."""

import numpy as np

from ...ir import ops
from ...ir.graph import Node
from .emitter import Attribute, Emitter, element_code, operands


def eye_like(node: Node, emitter: Emitter) -> None:
    """EyeLike."""
    assert isinstance(node.op, ops.EyeLike)
    _emit(node, emitter, operands(node), {"dtype": element_code(node.op.dtype), "k": node.op.k})


def mel_weight_matrix(node: Node, emitter: Emitter) -> None:
    """MelWeightMatrix."""
    assert isinstance(node.op, ops.MelWeightMatrix)
    _emit(node, emitter, operands(node), {"output_datatype": element_code(node.op.dtype)})


def dft(node: Node, emitter: Emitter) -> None:
    """DFT, with length and axis as scalars."""
    op, base = node.op, node.output.name
    assert isinstance(op, ops.DFT)
    length = _scalar(op.length, emitter, base) if op.length else ""
    flags: dict[str, Attribute] = {"inverse": int(op.inverse), "onesided": int(op.onesided)}
    _emit(node, emitter, [operands(node)[0], length, _scalar(op.axis, emitter, base)], flags)


def stft(node: Node, emitter: Emitter) -> None:
    """STFT; window and length follow the step."""
    op, base = node.op, node.output.name
    assert isinstance(op, ops.STFT)
    x, window = [*operands(node), ""][:2]
    length = _scalar(op.length, emitter, base) if op.length else ""
    ins = [x, _scalar(op.step, emitter, base), window, length]
    _emit(node, emitter, ins, {"onesided": int(op.onesided)})


def col2im(node: Node, emitter: Emitter) -> None:
    """Col2Im."""
    op, base = node.op, node.output.name
    assert isinstance(op, ops.Col2Im)
    ins = [*operands(node), emitter.ints(op.image, base), emitter.ints(op.block, base)]
    _emit(node, emitter, ins, _window(op))


def max_unpool(node: Node, emitter: Emitter) -> None:
    """MaxUnpool."""
    op, ins = node.op, operands(node)
    assert isinstance(op, ops.MaxUnpool)
    if op.shape is not None:
        ins.append(emitter.ints(op.shape, node.output.name))
    _emit(node, emitter, ins, {"kernel_shape": op.kernel, **_window(op)})


def _window(op: ops.Col2Im | ops.MaxUnpool) -> dict[str, Attribute]:
    given = {name: getattr(op, name, None) for name in ("strides", "pads", "dilations")}
    return {name: value for name, value in given.items() if value is not None}


def max_pool_indices(node: Node, emitter: Emitter) -> None:
    """MaxPool with its second result."""
    op = node.op
    assert isinstance(op, ops.MaxPoolIndices)
    attributes: dict[str, Attribute] = {
        "kernel_shape": op.pool.kernel,
        "strides": op.pool.strides,
        "pads": op.pool.pads,
        "dilations": op.pool.dilations,
        "ceil_mode": int(op.pool.ceil_mode),
        "storage_order": op.storage_order,
    }
    _emit(node, emitter, operands(node), attributes, "MaxPool")


def cropped_resize(node: Node, emitter: Emitter) -> None:
    """Resize with a region or a kept ratio."""
    op = node.op
    assert isinstance(op, ops.CroppedResize)
    inner, target = op.resize, node.operands[1]
    attributes: dict[str, Attribute] = {
        "mode": inner.mode,
        "coordinate_transformation_mode": (
            "tf_crop_and_resize" if op.crop else inner.coordinate_transformation_mode
        ),
        "nearest_mode": inner.nearest_mode,
        "cubic_coeff_a": inner.cubic_coeff_a,
        "exclude_outside": int(inner.exclude_outside),
        "antialias": int(inner.antialias),
        "axes": op.axes,
        "keep_aspect_ratio_policy": op.policy,
        "extrapolation_value": op.extrapolation_value,
    }
    x, name, region = [*operands(node), ""][:3]
    targets = [name, ""] if target.type.is_float else ["", name]
    _emit(node, emitter, [x, region, *targets], attributes, "Resize")


def _scalar(value: int, emitter: Emitter, base: str) -> str:
    return emitter.constant(np.asarray(value, np.int64), base)


def _emit(
    node: Node, emitter: Emitter, ins: list[str], attributes: dict[str, Attribute], kind: str = ""
) -> None:
    outs = [v.name for v in node.outputs]
    emitter.node(kind or node.op.name, ins, outs, attributes, name=node.name)
