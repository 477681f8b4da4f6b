"""Import rules for Resize and Upsample."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.index import ScatterElements
from ...ir.ops.resize import Resize
from ...ir.ops.resize_crop import CroppedResize
from ...ir.ops.shape import Shape
from ..onnx_site import Site

_CROP = "tf_crop_and_resize"


def upsample(site: Site) -> list[Value]:
    """Upsample (opsets 7 to 9) and Resize of opset 10: corners asymmetric, nearest rounds down."""
    mode = site.text("mode", "nearest")
    scales = site.attributes.get("scales")
    op = Resize(
        "linear" if mode in ("linear", "bilinear") else mode, None, None, "asymmetric", "floor"
    )
    if scales is None:
        return site.results(op, site.input(0), site.input(1))
    return site.results(op, site.input(0), site.constant(np.asarray(scales, np.float32)))


def resize(site: Site) -> list[Value]:
    """`Resize`, `CroppedResize` for regions and kept ratios; ``axes`` since opset 18."""
    if site.opset < 11:
        return upsample(site)
    transform = site.text("coordinate_transformation_mode", "half_pixel")
    policy = site.text("keep_aspect_ratio_policy", "stretch")
    crop = transform == _CROP
    op = Resize(
        site.text("mode", "nearest"), None, None, "half_pixel" if crop else transform,
        site.text("nearest_mode", "round_prefer_floor"), site.number("cubic_coeff_a", -0.75),
        site.flag("exclude_outside"), site.flag("antialias"),
    )  # fmt: skip
    x, scales, sizes = site.input(0), site.optional(2), site.optional(3)
    target = sizes if sizes is not None else scales
    if target is None:
        raise site.error("it has neither scales nor sizes")
    axes = site.ints("axes")
    if not crop and (policy == "stretch" or target is scales):
        return site.results(op, x, target if axes is None else _all_axes(site, target, axes))
    named = tuple(range(x.type.rank)) if axes is None else tuple(a % x.type.rank for a in axes)
    fill = site.number("extrapolation_value", 0.0)
    cropped = CroppedResize(op, named, policy, crop, fill)
    return site.results(cropped, x, target, *([site.input(1)] if crop else []))


def _all_axes(site: Site, target: Value, axes: tuple[int, ...]) -> Value:
    """Scales or sizes of all axes from those of some."""
    x, array = site.input(0), site.builder.static(target)
    rank = x.type.rank
    places = np.asarray([a % rank for a in axes], np.int64)
    if array is None:
        if target.type.is_float:
            whole = site.constant(np.ones(rank, np.float32))
        else:
            whole = site.emit(Shape(), x)
        return site.emit(ScatterElements(), whole, site.constant(places), target)
    full = np.ones(rank, np.float32) if array.dtype.kind == "f" else np.full(rank, -1, np.int64)
    full[places] = array
    return site.constant(full)
