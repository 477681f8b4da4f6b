"""Transposed convolutions of images as convolutions and a shuffle of pixels, so that they compile.

With stride ``s`` the result's pixel ``q * s + r`` sums ``x[q - t] * w[t * s + r]`` over ``t``: for
every remainder ``r`` an ordinary convolution, whose channels ``DepthToSpace`` puts in their places
(Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016).  ::

    %y = ConvTranspose(%x, %w) {strides=(2, 2)}   ->   Conv, DepthToSpace {mode=CRD}, Slice
"""

import numpy as np

from ...ir.graph import Value
from ...ir.ops import OPS
from ...ir.rewrite import Match, Rule, p
from ...ir.types import Array


def _shuffled(m: Match) -> Value | None:
    """Only two equal strides, no dilation, constant weights, and pixels that all exist."""
    op, node = m.root.op, m.root
    stride, sides = op.strides[0], op.strides  # type: ignore[attr-defined]
    weight = node.operands[1].data
    if len(sides) != 2 or len(set(sides)) > 1 or set(op.dilations) != {1}:  # type: ignore[attr-defined]
        return None
    if weight is None or any(v.data is None for v in node.operands[2:]):
        return None
    begins, ends = op.pads[:2], op.pads[2:]  # type: ignore[attr-defined]
    extra: tuple[int, int] = op.output_padding  # type: ignore[attr-defined]
    taps = [-(-k // stride) for k in weight.shape[2:]]
    rest = [t * stride - k for t, k in zip(taps, weight.shape[2:], strict=True)]
    cut = [r - e + end for r, e, end in zip(rest, extra, ends, strict=True)]
    if min(cut) < 0 or min(begins) < 0:
        return None
    group: int = op.group  # type: ignore[attr-defined]
    wide = m.graph.constant(_phases(weight, stride, taps, group), node.operands[1].name)
    operands = [wide]
    if len(node.operands) > 2:
        bias = np.repeat(np.asarray(node.operands[2].data), stride * stride)
        operands.append(m.graph.constant(bias, node.operands[2].name))
    pads = (taps[0] - 1, taps[1] - 1) * 2
    y = m.make(OPS["Conv"](pads=pads, group=group), m["x"], *operands)  # type: ignore[call-arg]
    if stride > 1:
        y = m.make(OPS["DepthToSpace"](blocksize=stride, mode="CRD"), y)  # type: ignore[call-arg]
    if not any((*begins, *cut)):
        return y
    last = tuple(b + d for b, d in zip(begins, node.output.shape[2:], strict=True))
    window = OPS["Slice"](starts=tuple(begins), ends=last, axes=(2, 3))  # type: ignore[call-arg]
    return m.make(window, y)


def _phases(weight: Array, stride: int, taps: list[int], group: int) -> Array:
    """Weights ``[C, O/group, kh, kw]`` as ``[O * stride**2, C/group, *taps]``.

    Output channels are ordered by channel, then by remainder; taps run backwards.
    """
    inputs, outputs, *kernel = weight.shape
    grow = [(0, t * stride - k) for t, k in zip(taps, kernel, strict=True)]
    full = np.pad(weight, ((0, 0), (0, 0), *grow))
    shape = (group, inputs // group, outputs, taps[0], stride, taps[1], stride)
    split = full.reshape(shape)[:, :, :, ::-1, :, ::-1]
    order = split.transpose(0, 2, 4, 6, 1, 3, 5)
    flat = order.reshape(group * outputs * stride * stride, inputs // group, *taps)
    return np.ascontiguousarray(flat)


TRANSPOSED = [Rule("transposed-conv", p.ConvTranspose(p.x), _shuffled)]
