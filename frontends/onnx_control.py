"""Import rules for If, Loop and Scan: inner graphs, their captures, and shapes that they change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ..ir.errors import VerifyError
from ..ir.graph import Graph, Value
from ..ir.ops.base import normal_axis
from ..ir.ops.control import If, Loop, Scan, symbol
from ..ir.ops.index import Slice
from ..ir.ops.shape import Transpose
from ..ir.types import TensorType
from .onnx_site import Site, Unsupported

Build = Callable[[gs.Graph, Sequence[TensorType], str], Graph]
"""Imports an inner graph for inputs of these types, the captures after them; its name is given."""


@dataclass(frozen=True)
class Enclosed:
    """What a node encloses: its graphs by attribute, and the outer values that these read."""

    graphs: Mapping[str, gs.Graph]
    captures: tuple[Value, ...]
    build: Build

    def graph(self, site: Site, name: str) -> gs.Graph:
        """The graph of an attribute, which must be there."""
        if name not in self.graphs:
            raise site.error(f"attribute {name} is missing")
        return self.graphs[name]


def if_(site: Site, inside: Enclosed) -> list[Value]:
    """`If`; where the condition is constant its branch is taken."""
    branches = (
        inside.build(inside.graph(site, name), (), f"{site.name}.{name}")
        for name in ("then_branch", "else_branch")
    )
    op = If(*branches)
    pairs = zip(op.then_branch.outputs, op.else_branch.outputs, strict=False)
    if any(a.type.rank != b.type.rank for a, b in pairs):
        raise Unsupported(
            "its branches give results of different rank; if its condition depends on a shape, "
            "fix that with --input-shape"
        )
    return site.results(op, site.input(0), *inside.captures)


def loop(site: Site, inside: Enclosed) -> list[Value]:
    """`Loop`"""
    initial = [site.input(i) for i in range(2, len(site.inputs))]
    flags = [TensorType("int64", ()), TensorType("bool", ())]
    body = _settle(site, inside, [*flags, *(v.type for v in initial)], 2, 1, len(initial))
    trips, going = site.optional(0), site.optional(1)
    op = Loop(body, len(initial))
    return site.results(op, trips, going, *initial, *inside.captures)


def scan(site: Site, inside: Enclosed) -> list[Value]:
    """`Scan` since opset 9; other axes and directions become Transpose and Slice around it."""
    if site.opset < 9:
        raise Unsupported("Scan of opset 8 runs over a batch; export with opset 9 or newer")
    scanned = site.integer("num_scan_inputs", 1)
    carried = len(site.inputs) - scanned
    states = [site.input(i) for i in range(carried)]
    yields = len(inside.graph(site, "body").outputs) - carried
    axes, back = _ways(site, "input", scanned)
    elements = []
    for i in range(scanned):
        x = site.input(carried + i)
        elements.append(_front(site, x, normal_axis(axes[i], x.type.rank), bool(back[i])))
    types = [TensorType(v.type.dtype, v.type.shape[1:]) for v in elements]
    body = _settle(site, inside, [*(v.type for v in states), *types], 0, 0, carried)
    results = site.results(Scan(body, carried, scanned), *states, *elements, *inside.captures)
    axes, back = _ways(site, "output", yields)
    for i in range(yields):
        x = results[carried + i]
        results[carried + i] = _back(site, x, normal_axis(axes[i], x.type.rank), bool(back[i]))
    return results


def _ways(site: Site, side: str, count: int) -> tuple[Sequence[int], Sequence[int]]:
    axes = site.ints(f"scan_{side}_axes") or (0,) * count
    return axes, site.ints(f"scan_{side}_directions") or (0,) * count


def _front(site: Site, x: Value, axis: int, backwards: bool) -> Value:
    """``x`` with ``axis`` first, turned around if asked."""
    if axis:
        x = site.emit(Transpose((axis, *(i for i in range(x.type.rank) if i != axis))), x)
    return _reverse(site, x) if backwards else x


def _back(site: Site, x: Value, axis: int, backwards: bool) -> Value:
    """The inverse of :func:`_front`."""
    x = _reverse(site, x) if backwards else x
    if axis:
        order = list(range(1, x.type.rank))
        order.insert(axis, 0)
        x = site.emit(Transpose(tuple(order)), x)
    return x


def _reverse(site: Site, x: Value) -> Value:
    return site.emit(Slice((-1,), (-(2**63),), (0,), (-1,)), x)


def _settle(
    site: Site, inside: Enclosed, types: Sequence[TensorType], first: int, out: int, count: int
) -> Graph:
    """The body for carried values of ``types``, made symbols in the dimensions that it changes."""
    types, name = list(types), f"{site.name}.body"
    for _ in range(3):
        body = inside.build(inside.graph(site, "body"), types, name)
        changed = False
        for i in range(first, first + count):
            before, after = types[i], body.outputs[out + i - first].type
            if before.dtype != after.dtype or before.rank != after.rank:
                raise Unsupported(f"its state changes from {before} to {after}")
            pairs = enumerate(zip(before.shape, after.shape, strict=True))
            dims = [b if a == b else symbol(name, "state", i * 100 + k) for k, (b, a) in pairs]
            changed |= tuple(dims) != before.shape
            types[i] = before.with_shape(dims)
        if not changed:
            return body
    raise VerifyError(f"the shapes of its states do not settle: {', '.join(map(str, types))}")


CONTROL: dict[str, Callable[[Site, Enclosed], list[Value]]] = {
    "If": if_,
    "Loop": loop,
    "Scan": scan,
}
