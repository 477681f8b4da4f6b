"""Which columns of a packed layer go where: parts that a Split takes, or views of heads.

A view is a Reshape of the columns into several axes, perhaps a Transpose, and a Split or Gathers of
single numbers along one of these axes::

    %v = Reshape(%y) {shape=(1, 64, 3, 4, 32)}    %q = Gather(%v, 0) {axis=2}    ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.ops.index import Gather
from ..ir.ops.shape import Reshape, Split, Transpose
from ..ir.types import Array


@dataclass(frozen=True)
class Part:
    """A value that is ``columns`` of a layer's result, int ``[n]``, reshaped, then transposed.

    ``shape`` and ``perm`` are None where it is not.
    """

    value: Value
    columns: Array
    shape: tuple[int, ...] | None = None
    perm: tuple[int, ...] | None = None


def parts_of(graph: Graph, whole: Value) -> list[Part]:
    """The parts of a result with channels last that are all that is read of it; none otherwise."""
    view = whole
    axes: tuple[int, ...] = (whole.shape[-1],)
    perm: tuple[int, ...] | None = None
    lead = whole.type.rank - 1
    if (node := _sole(graph, view, Reshape)) is not None:
        shape = node.output.shape
        if shape[:lead] != whole.shape[:lead] or prod(shape[lead:]) != whole.shape[-1]:
            return []
        view, axes = node.output, shape[lead:]
        if (turn := _sole(graph, view, Transpose)) is not None:
            assert isinstance(turn.op, Transpose)
            view, perm = turn.output, turn.op.perm
    picks = list(_picks(graph, view))
    taken = {axis if perm is None else perm[axis] for axis, _, _ in picks}
    if len(taken) != 1 or min(taken) < lead:
        return []
    (axis,) = taken
    grid = np.arange(whole.shape[-1]).reshape(axes)
    made = []
    for _, indices, value in picks:
        columns = np.take(grid, indices, axis - lead)
        shown = None if view is whole else (*whole.shape[:lead], *columns.shape)
        turned = perm
        if perm is not None and columns.ndim < grid.ndim:
            turned = tuple(p - (p > axis) for p in perm if p != axis)
        made.append(Part(value, columns.ravel(), shown, turned))
    return made


def _sole(graph: Graph, value: Value, kind: type[Reshape] | type[Transpose]) -> Node | None:
    user = graph.sole_use(value)
    return user if user is not None and isinstance(user.op, kind) else None


def _picks(graph: Graph, view: Value) -> Iterator[tuple[int, Array, Value]]:
    """Per part its axis, its indices there (a number that takes the axis away, or several).

    Nothing where something else than parts is read.
    """
    users = list(dict.fromkeys(view.uses))
    if graph.is_output(view):
        return
    if len(users) == 1 and isinstance(users[0].op, Split):
        axis, start = users[0].op.axis % view.type.rank, 0
        for part in users[0].outputs:
            yield axis, np.arange(start, start + part.shape[axis]), part
            start += part.shape[axis]
    elif len(users) > 1 and all(_is_pick(n, view) for n in users):
        for node in users:
            assert isinstance(node.op, Gather)
            axis = node.op.axis % view.type.rank
            number = int(np.asarray(node.operands[1].data)) % view.shape[axis]
            yield axis, np.asarray(number), node.output


def _is_pick(node: Node, view: Value) -> bool:
    """Whether a node takes one known number along an axis."""
    if not isinstance(node.op, Gather) or node.operands[0] is not view:
        return False
    index = node.operands[1]
    return index.data is not None and index.type.rank == 0
