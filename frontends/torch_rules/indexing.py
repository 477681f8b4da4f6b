"""Import rules for picking and placing elements by index."""

from collections.abc import Sequence

from ...ir.graph import Value
from ...ir.ops.base import broadcast, normal_axis
from ...ir.ops.index import (
    Gather,
    GatherElements,
    GatherND,
    ScatterElements,
    ScatterND,
    Trilu,
)  # fmt: skip
from ...ir.ops.shape import Concat, Expand, Shape, Transpose, Unsqueeze
from ...ir.types import Shape as Dims
from ..onnx_site import Unsupported
from ..torch_site import Rule, Site


def embedding(site: Site) -> list[Value]:
    """`Gather`."""
    return site.results(Gather(0), site.value("weight"), site.value("indices"))


def index_select(site: Site) -> list[Value]:
    """`Gather`."""
    x = site.value("self")
    return site.results(
        Gather(normal_axis(site.integer("dim"), x.type.rank)), x, site.value("index")
    )


def gather(site: Site) -> list[Value]:
    """`GatherElements`."""
    return site.results(
        GatherElements(site.integer("dim")), site.value("self"), site.value("index")
    )


def scatter(site: Site) -> list[Value]:
    """`ScatterElements`; of one number, or of a tensor as large as the indices."""
    x, indices = site.value("self"), site.value("index")
    if site.has("reduce"):
        raise Unsupported("scatter with a reduction is not supported")
    if not site.has("src"):
        fill = site.tensor(site.arguments.get("value"), site.dtype)
        source = site.emit(Expand(), fill, site.emit(Shape(), indices))
    else:
        source = site.cast(site.value("src"), site.dtype)
        if source.type.shape != indices.type.shape:
            raise Unsupported(f"indices {indices.type} for a source {source.type}")
    return site.results(ScatterElements(site.integer("dim")), x, indices, source)


def scatter_add(site: Site) -> list[Value]:
    """`ScatterElements`, added."""
    x, indices, source = site.value("self"), site.value("index"), site.value("src")
    if source.type.shape != indices.type.shape:
        raise Unsupported(f"indices {indices.type} for a source {source.type}")
    return site.results(ScatterElements(site.integer("dim"), "add"), x, indices, source)


def index(site: Site) -> list[Value]:
    """`Gather` by one index, `GatherND` by several."""
    x = site.value("self")
    axes, indices = _indices(site)
    if len(axes) == 1:
        return site.results(Gather(axes[0]), x, indices[0])
    rest = [a for a in range(x.type.rank) if a not in axes]
    order = (*axes, *rest)
    if order != tuple(range(x.type.rank)):
        x = site.emit(Transpose(order), x)
    tuples, shape = _tuples(site, indices)
    if axes == list(range(axes[0], axes[0] + len(axes))) and axes[0] > 0:
        # adjacent indices: what they give stands where they stood
        picked = site.emit(GatherND(), x, tuples)
        n, before = len(shape), axes[0]
        order = (*range(n, n + before), *range(n), *range(n + before, n + len(rest)))
        return site.results(Transpose(order), picked)
    return site.results(GatherND(), x, tuples)


def index_put(site: Site) -> list[Value]:
    """`ScatterND`, replaced or added."""
    x = site.value("self")
    axes, indices = _indices(site)
    if axes != list(range(len(axes))):
        raise Unsupported("only indices of the first axes are supported")
    tuples, shape = _tuples(site, indices)
    source = site.cast(site.value("values"), site.dtype)
    target = (*shape, *x.type.shape[len(axes) :])
    if source.type.shape != target:
        if any(isinstance(d, str) for d in target):
            raise Unsupported(f"values {source.type} are broadcast to {target}")
        source = site.emit(Expand(target), source)
    reduction = "add" if site.flag("accumulate") else "none"
    return site.results(ScatterND(reduction), x, tuples, source)


def _indices(site: Site) -> tuple[list[int], list[Value]]:
    """The axes that are indexed, and by what."""
    given = site.arguments.get("indices")
    if not isinstance(given, list | tuple):
        raise site.error(f"argument indices is {given!r}")
    found = [(a, v) for a, v in enumerate(given) if isinstance(v, Value)]
    if any(v.type.dtype == "bool" for _, v in found):
        raise Unsupported("the shape of what a mask picks depends on data; use torch.where")
    return [a for a, _ in found], [site.cast(v, "int64") for _, v in found]


def _tuples(site: Site, indices: Sequence[Value]) -> tuple[Value, Dims]:
    """Index tuples along a new last axis, and the shape that the indices broadcast to."""
    shape = broadcast(*(v.type.shape for v in indices))
    columns = []
    for v in indices:
        if v.type.shape != shape:
            if any(isinstance(d, str) for d in shape):
                raise Unsupported(f"indices of shapes that are not known broadcast to {shape}")
            v = site.emit(Expand(shape), v)
        columns.append(site.emit(Unsqueeze((len(shape),)), v))
    tuples = columns[0] if len(columns) == 1 else site.emit(Concat(len(shape)), *columns)
    return tuples, shape


def triangle(upper: bool) -> Rule:
    """A triangle of the last two axes."""

    def rule(site: Site) -> list[Value]:
        return site.results(Trilu(upper, site.integer("diagonal")), site.value("self"))

    rule.__doc__ = "`Trilu`"
    return rule
