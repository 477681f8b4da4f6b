"""Import rules for ops that sample, select and transform: attributes from operands."""

from onnx import TensorProto

from ...ir.graph import Value
from ...ir.ops.pool import MaxPool
from ...ir.ops.sample import DeformConv, GridSample, RoiAlign
from ...ir.ops.select import Compress, EyeLike, Unique
from ...ir.ops.spectral import DFT, STFT, MelWeightMatrix
from ...ir.ops.windows import Col2Im, MaxPoolIndices, MaxUnpool
from ..onnx_site import Site
from .arithmetic import element_type
from .layers import padding, pooled


def grid_sample(site: Site) -> list[Value]:
    """`GridSample`"""
    mode = site.text("mode", "linear").removeprefix("bi")
    op = GridSample(mode, site.text("padding_mode", "zeros"), site.flag("align_corners"))
    return site.results(op, *site.inputs)


def deform_conv(site: Site) -> list[Value]:
    """`DeformConv`"""
    kernel = site.input(1).type.static[2:]
    ones = (1,) * len(kernel)
    strides, dilations = site.ints("strides") or ones, site.ints("dilations") or ones
    pads = padding(site, kernel, strides, dilations)
    groups = site.integer("group", 1), site.integer("offset_group", 1)
    return site.results(DeformConv(strides, pads, dilations, *groups), *site.inputs)


def roi_align(site: Site) -> list[Value]:
    """`RoiAlign`; before opset 16 points are not moved by half a pixel."""
    default = "half_pixel" if site.opset >= 16 else "output_half_pixel"
    op = RoiAlign(
        site.text("mode", "avg"),
        site.integer("output_height", 1),
        site.integer("output_width", 1),
        site.integer("sampling_ratio", 0),
        site.number("spatial_scale", 1.0),
        site.text("coordinate_transformation_mode", default),
    )
    return site.results(op, *site.inputs)


def compress(site: Site) -> list[Value]:
    """`Compress`"""
    return site.results(Compress(_axis(site)), *site.inputs)


def unique(site: Site) -> list[Value]:
    """`Unique`"""
    return site.results(Unique(_axis(site), site.flag("sorted", True)), site.input(0))


def _axis(site: Site) -> int | None:
    return site.integer("axis", 0) if "axis" in site.attributes else None


def eye_like(site: Site) -> list[Value]:
    """`EyeLike`"""
    code = site.integer("dtype", 0)
    dtype = element_type(code) if code else site.input(0).type.dtype
    return site.results(EyeLike(dtype, site.integer("k", 0)), site.input(0))


def max_pool(site: Site) -> list[Value]:
    """`MaxPool`, or `MaxPoolIndices` where the places are asked for."""
    op = pooled(site, MaxPool)
    if not site.wants(1):
        return site.results(op, site.input(0))
    assert isinstance(op, MaxPool)
    return site.results(MaxPoolIndices(op, site.integer("storage_order", 0)), site.input(0))


def max_unpool(site: Site) -> list[Value]:
    """`MaxUnpool`"""
    op = MaxUnpool(site.ints("kernel_shape") or (), site.ints("strides"), site.ints("pads"))
    return site.late(op, {"shape": site.optional(2)}, site.input(0), site.input(1))


def col2im(site: Site) -> list[Value]:
    """`Col2Im`"""
    op = Col2Im((), (), site.ints("strides"), site.ints("pads"), site.ints("dilations"))
    return site.late(op, {"image": site.input(1), "block": site.input(2)}, site.input(0))


def dft(site: Site) -> list[Value]:
    """`DFT`; the axis is an operand since opset 20."""
    axis = site.optional(2) if site.opset >= 20 else None
    first = -2 if site.opset >= 20 else site.integer("axis", 1)
    op = DFT(first, 0, site.flag("inverse"), site.flag("onesided"))
    return site.late(op, {"axis": axis, "length": site.optional(1)}, site.input(0))


def stft(site: Site) -> list[Value]:
    """`STFT`"""
    op = STFT(onesided=site.flag("onesided", True))
    late = {"step": site.input(1), "length": site.optional(3)}
    return site.late(op, late, site.input(0), site.optional(2))


def mel_weight_matrix(site: Site) -> list[Value]:
    """`MelWeightMatrix`"""
    dtype = element_type(site.integer("output_datatype", TensorProto.FLOAT))
    return site.results(MelWeightMatrix(dtype), *site.inputs)
