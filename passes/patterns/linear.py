"""Constants next to convolutions and matrix products go into weights and biases."""

from dataclasses import replace

import numpy as np

from ...ir.graph import Value
from ...ir.ops import OPS
from ...ir.rewrite import Match, Rule, const, p
from ...ir.types import Array


def _channels(array: Array, count: int, rank: int, axis: int) -> Array | None:
    """A constant that broadcasts along ``axis`` alone, as a vector of ``count``; else None."""
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(d != 1 for i, d in enumerate(shape) if i != axis):
        return None
    if shape[axis] not in (1, count):
        return None
    return np.broadcast_to(array.reshape(-1), (count,)).copy()


def _conv_bias(m: Match) -> Value | None:
    node, out = m.nodes["conv"], m.nodes["conv"].output
    axis, count = 1, out.shape[1]
    shift = _channels(m.array("c"), count, out.type.rank, axis)
    if shift is None or m.root.output.type.shape != out.type.shape:
        return None
    bias = shift
    if len(node.operands) > 2:
        if node.operands[2].data is None:
            return None
        bias = bias + node.operands[2].data
    return m.make(node.op, *node.operands[:2], m.graph.constant(bias, f"{node.name}.bias"))


def _conv_scale(m: Match) -> Value | None:
    node, out = m.nodes["conv"], m.nodes["conv"].output
    scale = _channels(m.array("c"), out.shape[1], out.type.rank, 1)
    weight = node.operands[1].data
    if scale is None or weight is None or m.root.output.type.shape != out.type.shape:
        return None
    wide = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    rest = [m.graph.constant(wide, node.operands[1].name)]
    for value in node.operands[2:]:
        if value.data is None:
            return None
        rest.append(m.graph.constant(value.data * scale, value.name))
    return m.make(node.op, node.operands[0], *rest)


def _matmul_bias(m: Match) -> Value | None:
    node, out = m.nodes["product"], m.nodes["product"].output
    x, weight = node.operands
    if x.type.rank < 2 or not weight.is_constant or weight.type.rank != 2:
        return None
    rank = out.type.rank
    bias = _channels(m.array("c"), out.shape[-1], rank, rank - 1)
    if bias is None or m.root.output.type.shape != out.type.shape:
        return None
    return m.make(OPS["Gemm"](), *node.operands, m.graph.constant(bias, f"{node.name}.bias"))


def _plain_gemm(m: Match) -> Value | None:
    """alpha, beta and a transposed weight go into the constants."""
    op, node = m.root.op, m.root
    alpha, beta, turned = op.alpha, op.beta, op.trans_b  # type: ignore[attr-defined]
    weight = node.operands[1].data
    if weight is None or (
        alpha == 1 and beta == 1 and not turned and _flat_bias(node.operands[2:])
    ):
        return None
    if any(v.data is None for v in node.operands[2:]):
        return None
    wide = np.ascontiguousarray(weight.T if turned else weight) * np.float32(alpha)
    rest = [m.graph.constant(wide.astype(np.float32), node.operands[1].name)]
    for value in node.operands[2:]:
        bias = _channels(np.asarray(value.data), wide.shape[1], 2, 1)
        if bias is None:
            return None
        rest.append(m.graph.constant(bias * np.float32(beta), value.name))
    plain = replace(op, alpha=1.0, beta=1.0, trans_b=type(turned)(0))  # type: ignore[call-arg]
    return m.make(plain, node.operands[0], *rest)


def _flat_bias(rest: tuple[Value, ...]) -> bool:
    return all(v.type.rank == 1 for v in rest)


def _conv_pad(m: Match) -> Value | None:
    """Zero padding of spatial axes goes into the convolution."""
    pad, conv = m.nodes["pad"].op, m.root.op
    pads, rank = pad.pads, m["x"].type.rank  # type: ignore[attr-defined]
    if len(m.nodes["pad"].operands) > 1 or pads is None:
        return None
    if pad.mode != "constant" or pad.value != 0 or min(pads) < 0:  # type: ignore[attr-defined]
        return None
    if any(pads[i] or pads[i + rank] for i in (0, 1)):
        return None
    space = (*pads[2:rank], *pads[rank + 2 :])
    both = tuple(a + b for a, b in zip(space, conv.pads, strict=True))  # type: ignore[attr-defined]
    return m.make(replace(conv, pads=both), m["x"], *m.root.operands[1:])  # type: ignore[call-arg]


def _spatial_mean(m: Match) -> Value | None:
    op, rank = m.root.op, m["x"].type.rank
    axes = op.axes  # type: ignore[attr-defined]
    if rank == 3 and op.keepdims:  # type: ignore[attr-defined]
        return None  # over the features of a sequence: part of a normalisation
    if rank < 3 or axes is None or sorted(a % rank for a in axes) != list(range(2, rank)):
        return None
    mean = m.make(OPS["GlobalAveragePool"](), m["x"])
    return mean if op.keepdims else m.make(OPS["Flatten"](axis=1), mean)  # type: ignore[attr-defined,call-arg]


LINEAR = [
    Rule("conv-bias", p.Add(p.Conv(p.x).named("conv"), const("c")), _conv_bias),
    Rule("conv-scale", p.Mul(p.Conv(p.x).named("conv"), const("c")), _conv_scale),
    Rule("matmul-bias", p.Add(p.MatMul(p.x).named("product"), const("c")), _matmul_bias),
    Rule("plain-gemm", p.Gemm(p.x), _plain_gemm),
    Rule("pad-conv", p.Conv(p.Pad(p.x).named("pad")), _conv_pad),
    Rule("mean-pool", p.ReduceMean(p.x), _spatial_mean),
]
