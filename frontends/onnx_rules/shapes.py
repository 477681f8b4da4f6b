"""Import rules for shapes and indices: old forms become new ones."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.elementwise import Add, Mod
from ...ir.ops.index import OneHot, Pad, ScatterElements, Slice, Trilu
from ...ir.ops.shape import (
    Concat,
    ConstantOfShape,
    Expand,
    Reshape,
    Shape,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)  # fmt: skip
from ...ir.types import Array
from ..onnx_site import Site, Unsupported


def half_to_single(array: Array) -> Array:
    """Half precision (IEEE or bfloat16) as float32."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def constant(site: Site) -> list[Value]:
    """Constant, in all its forms."""
    for name, dtype in (
        ("value", None), ("sparse_value", None), ("value_float", np.float32),
        ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64),
    ):  # fmt: skip
        if (value := site.attributes.get(name)) is not None:
            array = half_to_single(np.asarray(value, dtype))
            return [site.builder.constant(array, site.outputs[0])]
    raise Unsupported(f"a constant of {', '.join(site.attributes) or 'nothing'} is not supported")


def constant_of_shape(site: Site) -> list[Value]:
    """ConstantOfShape."""
    value = half_to_single(np.asarray(site.attributes.get("value", np.float32(0))))
    op = ConstantOfShape(value.reshape(-1)[0].item(), value.dtype.name)
    return site.results(op, site.input(0))


def shape(site: Site) -> list[Value]:
    """Shape; ``start`` and ``end`` since opset 15."""
    end = site.attributes.get("end")
    return site.results(
        Shape(site.integer("start", 0), None if end is None else site.integer("end", 0)),
        site.input(0),
    )


def reshape(site: Site) -> list[Value]:
    """Reshape."""
    return site.results(Reshape(allowzero=site.flag("allowzero")), site.input(0), site.input(1))


def expand(site: Site) -> list[Value]:
    """Expand."""
    return site.results(Expand(), site.input(0), site.input(1))


def tile(site: Site) -> list[Value]:
    """Tile."""
    return site.results(Tile(), site.input(0), site.input(1))


def transpose(site: Site) -> list[Value]:
    """Transpose; by default the axes turn around."""
    x = site.input(0)
    return site.results(Transpose(site.ints("perm") or tuple(reversed(range(x.type.rank)))), x)


def concat(site: Site) -> list[Value]:
    """Concat; one operand is no node at all."""
    if len(site.inputs) == 1:
        return [site.input(0)]
    return site.results(Concat(site.integer("axis", 1)), *site.inputs)


def squeeze(site: Site) -> list[Value]:
    """Squeeze; the axes are an operand since opset 13."""
    if site.opset < 13:
        return site.results(Squeeze(site.ints("axes")), site.input(0))
    return site.late(Squeeze(), {"axes": site.optional(1)}, site.input(0))


def unsqueeze(site: Site) -> list[Value]:
    """Unsqueeze; the axes are an operand since opset 13."""
    if site.opset >= 13:
        return site.late(Unsqueeze(), {"axes": site.input(1)}, site.input(0))
    axes = site.ints("axes")
    if axes is None:
        raise site.error("the axes are missing")
    return site.results(Unsqueeze(axes), site.input(0))


def split(site: Site) -> list[Value]:
    """Split; sizes are an operand since opset 13, absent ones mean equal parts."""
    x, axis, count = site.input(0), site.integer("axis", 0), len(site.outputs)
    if site.opset >= 13 and site.optional(1) is not None:
        return site.late(Split(axis), {"sizes": site.optional(1)}, x)
    sizes = site.ints("split")
    if sizes is None:
        whole = x.type.shape[axis]
        if not isinstance(whole, int):
            raise Unsupported(
                f"equal parts of dimension {whole!r} need its size; give --input-shape"
            )
        part = -(-whole // count)
        sizes = (*(part,) * (count - 1), whole - part * (count - 1))
    return site.results(Split(axis, sizes), x)


def slice_(site: Site) -> list[Value]:
    """Slice; bounds are operands since opset 10."""
    if site.opset >= 10:
        return site.results(Slice(), *site.inputs)
    return site.results(
        Slice(site.ints("starts"), site.ints("ends"), site.ints("axes")), site.input(0)
    )


def pad(site: Site) -> list[Value]:
    """Pad; pads and value are operands since opset 11, axes since 18."""
    x, mode = site.input(0), site.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise site.error(f"mode {mode!r} does not exist")
    if site.opset < 11:
        return site.results(Pad(site.ints("pads"), mode, site.number("value", 0)), x)
    fill = site.optional(2)
    late = {"value": None if fill is None or fill.type.shape == (0,) else fill}
    pads, axes = site.input(1), site.optional(3)
    if axes is not None:
        pads = _all_pads(site, pads, axes)
    return site.late(Pad(None, mode), late, x, pads)


def _all_pads(site: Site, pads: Value, axes: Value) -> Value:
    """The pads of all axes from those of some."""
    rank = site.input(0).type.rank
    rank_, twice = site.constant(rank, axes), site.constant(np.zeros(2 * rank), pads)
    begins = site.emit(Mod(), axes, rank_)
    places = site.emit(Concat(0), begins, site.emit(Add(), begins, rank_))
    return site.emit(ScatterElements(), twice, places, pads)


def one_hot(site: Site) -> list[Value]:
    """OneHot."""
    op = OneHot(1, site.integer("axis", -1))
    return site.late(op, {"depth": site.input(1)}, site.input(0), site.input(2))


def trilu(site: Site) -> list[Value]:
    """Trilu."""
    return site.late(Trilu(site.flag("upper", True)), {"k": site.optional(1)}, site.input(0))
