"""Import rules for reductions, running sums and sorting."""

import numpy as np

from ...ir.graph import Value
from ...ir.ops.base import normal_axis
from ...ir.ops.elementwise import Abs, Cast, Mul, Sqrt, Sub
from ...ir.ops.reduce import (
    ArgMax,
    ArgMin,
    ArgReduce,
    CumSum,
    Reduce,
    ReduceL1,
    ReduceL2,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    TopK,
)  # fmt: skip
from ...ir.ops.shape import Reshape
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site


def reduction(op: type[Reduce]) -> Rule:
    """``op`` over the axes in ``dim``, all if there are none, in the type of the result."""

    def rule(site: Site) -> list[Value]:
        (x,) = site.operands("self", dtype=site.dtype)
        return site.results(_over(op, site, x), x)

    rule.__doc__ = f"`{op.__name__}`"
    return rule


def _over(op: type[Reduce], site: Site, x: Value) -> Reduce:
    axes = tuple(normal_axis(a, x.type.rank) for a in site.ints("dim"))
    return op(axes or None, site.flag("keepdim"))


def extreme(op: type[Reduce], pick: type[ArgReduce]) -> Rule:
    """The extreme values along one axis, and their indices."""

    def rule(site: Site) -> list[Value]:
        x = site.value("self")
        axis, keep = normal_axis(site.integer("dim"), x.type.rank), site.flag("keepdim")
        names = site.outputs
        values = site.builder.emit(op((axis,), keep), [x], names[:1], site.origin)
        return values + site.builder.emit(pick(axis, keep), [x], names[1:2], site.origin)

    rule.__doc__ = f"`{op.__name__}` and `{pick.__name__}`"
    return rule


def arg_extreme(op: type[ArgReduce]) -> Rule:
    """The index of the extreme along one axis, of all elements if there is none."""

    def rule(site: Site) -> list[Value]:
        x, keep = site.value("self"), site.flag("keepdim")
        if site.has("dim"):
            return site.results(op(normal_axis(site.integer("dim"), x.type.rank), keep), x)
        if keep and x.type.rank > 1:
            raise Unsupported("keepdim without dim is not supported")
        return site.results(op(0, False), site.emit(Reshape((-1,)), x))

    rule.__doc__ = f"`{op.__name__}`"
    return rule


max_dim, min_dim = extreme(ReduceMax, ArgMax), extreme(ReduceMin, ArgMin)


def truth(op: type[Reduce]) -> Rule:
    """Whether any (`ReduceMax`) or all (`ReduceMin`) elements are true."""

    def rule(site: Site) -> list[Value]:
        (x,) = site.operands("self", dtype="bool")
        wide = site.emit(Cast("int32"), x)
        return site.results(Cast("bool"), site.emit(_over(op, site, x), wide))

    rule.__doc__ = f"`{op.__name__}` of bools as integers"
    return rule


def variance(root: bool) -> Rule:
    """Mean square distance from the mean, corrected for the sample's size."""

    def rule(site: Site) -> list[Value]:
        spread = _variance(site, site.value("self"))
        return site.results(Sqrt(), spread) if root else [spread]

    rule.__doc__ = "`ReduceMean`, `Sub`, `Mul`" + (", `Sqrt`" if root else "")
    return rule


def variance_and_mean(site: Site) -> list[Value]:
    """`ReduceMean`, `Sub`, `Mul`; and the mean."""
    x = site.value("self")
    return [_variance(site, x), site.emit(_over(ReduceMean, site, x), x)]


def _variance(site: Site, x: Value) -> Value:
    axes = tuple(normal_axis(a, x.type.rank) for a in site.ints("dim")) or tuple(range(x.type.rank))
    count = 1
    for a in axes:
        count *= x.type.static[a]
    correction = site.number("correction") if site.has("correction") else 1.0
    centred = site.emit(Sub(), x, site.emit(ReduceMean(axes, True), x))
    square = site.emit(Mul(), centred, centred)
    mean = site.emit(ReduceMean(axes, site.flag("keepdim")), square)
    if not correction:
        return mean
    factor = np.asarray(count / max(count - correction, 0), site.dtype)
    return site.emit(Mul(), mean, site.constant(factor))


def vector_norm(site: Site) -> list[Value]:
    """`ReduceL2`, `ReduceL1`, or the extremes of `Abs`."""
    (x,) = site.operands("self", dtype=site.dtype)
    order = site.number("ord")
    if order in (1.0, 2.0):
        return site.results(_over(ReduceL1 if order == 1 else ReduceL2, site, x), x)
    if np.isinf(order):
        op = ReduceMax if order > 0 else ReduceMin
        return site.results(_over(op, site, x), site.emit(Abs(), x))
    raise Unsupported(f"norm {order:g} is not supported")


def cumulative_sum(site: Site) -> list[Value]:
    """`CumSum`."""
    (x,) = site.operands("self", dtype=site.dtype)
    return site.results(CumSum(normal_axis(site.integer("dim"), x.type.rank)), x)


def top_k(site: Site) -> list[Value]:
    """`TopK`."""
    op = TopK(site.integer("k"), site.integer("dim"), site.flag("largest"), site.flag("sorted"))
    return site.results(op, site.value("self"))


def sort(site: Site) -> list[Value]:
    """`TopK` of all elements."""
    x, axis = site.value("self"), site.integer("dim")
    return site.results(TopK(x.type.static[axis], axis, site.flag("descending")), x)
