"""Import rules for tensors made from sizes; where all is known they are constants."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.reduce import CumSum
from ...ir.ops.shape import ConstantOfShape, Range, Reshape, Shape
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site, Size


def full(fill: float | None) -> Rule:
    """A tensor of ``fill`` (None: of the argument ``fill_value``)."""

    def rule(site: Site) -> list[Value]:
        shape = site.shape("size")
        operand = shape if isinstance(shape, Value) else site.constant(np.asarray(shape, np.int64))
        return [_filled(site, fill, operand)]

    rule.__doc__ = "a constant, or `ConstantOfShape`"
    return rule


def full_like(fill: float | None) -> Rule:
    """A tensor of ``fill`` in the shape of the operand."""

    def rule(site: Site) -> list[Value]:
        return [_filled(site, fill, site.emit(Shape(), site.value("self")))]

    rule.__doc__ = "a constant, or `ConstantOfShape`"
    return rule


def _filled(site: Site, fill: float | None, shape: Value) -> Value:
    given = site.arguments.get("fill_value") if fill is None else fill
    if not isinstance(given, bool | int | float):
        raise Unsupported("the number it is filled with is not constant")
    value = np.asarray(given).astype(site.dtype)
    known = site.builder.static(shape)
    if known is not None:
        return site.constant(np.full(tuple(int(d) for d in known), value))
    return site.results(ConstantOfShape(value.item(), site.dtype), shape)[0]


def arange(site: Site) -> list[Value]:
    """A constant; a running sum of ones (`CumSum`) to a size that is not known, else `Range`."""
    ends = [site.arguments.get(n) for n in ("start", "end", "step")]
    start, end, step = (d if e is None else e for e, d in zip(ends, (0, None, 1), strict=True))
    if start == 0 and step == 1 and isinstance(end, Size):
        ones = site.emit(ConstantOfShape(1, "int64"), end.value)
        return [site.cast(site.emit(CumSum(0, exclusive=True), ones), site.dtype)]
    if any(isinstance(e, Size) for e in (start, end, step)):
        scalars = [_scalar(site, e) for e in (start, end, step)]
        return site.results(Range(), *scalars)
    assert all(isinstance(e, int | float) for e in (start, end, step))
    return [site.constant(np.arange(start, end, step).astype(site.dtype))]  # type: ignore[call-overload]


def _scalar(site: Site, item: object) -> Value:
    if isinstance(item, Size):
        return site.cast(site.emit(Reshape(()), item.value), site.dtype)
    return site.tensor(item, site.dtype)


def scalar_tensor(site: Site) -> list[Value]:
    """A constant."""
    return [site.tensor(site.arguments.get("s"), site.dtype)]
