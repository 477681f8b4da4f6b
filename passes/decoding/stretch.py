"""The same network for sequences of another length.

What says something for every position (masks, tables of rotary angles) is cut, or continued where
its rule is plain: rows that are all equal, arithmetic sequences, cosines and sines of the
position, and masks that depend on the distance alone, linearly below the diagonal.
"""

from __future__ import annotations

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph
from ...ir.types import Array
from .replay import Replay
from .times import Rows, Timing, timing

CLOSE = 2e-6
"""How far, relative to their size, known rows may lie from the rule that continues them."""


def stretched(graph: Graph, length: int) -> Graph:
    """``graph`` for ``length`` positions; itself where it has as many.

    Raises ``PreconditionError`` where a constant has no rows for later positions and no plain rule.
    """
    found = timing(graph)
    return graph if found.length == length else _Stretch(found, length).run()


class _Stretch(Replay):
    """Makes every axis of time ``length`` long."""

    def __init__(self, found: Timing, length: int) -> None:
        super().__init__(found, Graph(found.graph.name, properties=set(found.graph.properties)))
        self.sizes = (length, length)
        self.made: dict[tuple[int, Rows], Array] = {}

    def start(self) -> None:
        value = self.timing.graph.inputs[0]
        batch = value.shape[0]
        self.twin[id(value)] = self.out.input(value.name, value.type.with_shape((batch, self.new)))

    @property
    def new(self) -> int:
        """The new length."""
        return self.sizes[0]

    def constant_rows(self, data: Array, name: str, rows: Rows) -> Array:
        """A constant with another number of positions."""
        try:
            if rows.query is not None and rows.key is not None:
                return _mask(data, rows.query, rows.key, self.new)
            axis = rows.query if rows.query is not None else rows.key
            assert axis is not None
            return _rows(data, axis, self.new)
        except ValueError as error:
            raise PreconditionError(
                f"%{name} has {self.timing.length} positions and {error}, so there are no "
                f"{self.new}: give a capacity of at most {self.timing.length}"
            ) from error


def _rows(data: Array, axis: int, length: int) -> Array:
    """Rows along ``axis``, cut or continued."""
    if length <= data.shape[axis]:
        return np.ascontiguousarray(np.take(data, np.arange(length), axis))
    known = np.moveaxis(data, axis, 0)
    table = known.reshape(len(known), -1).astype(np.float64)
    more = np.stack([_continued(column, length) for column in table.T], -1)
    more = more.reshape(length, *known.shape[1:]).astype(data.dtype)
    more[: len(known)] = known
    return np.ascontiguousarray(np.moveaxis(more, 0, axis))


def _continued(column: Array, length: int) -> Array:
    """One element of all positions, as a rule says it."""
    at = np.arange(length, dtype=np.float64)
    known = at[: len(column)]
    line = column[0] + (column[1] - column[0]) * at
    rules = [line, *(_wave(column, known, at, f) for f in (np.cos, np.sin))]
    errors = [float(np.abs(rule[: len(column)] - column).max()) for rule in rules]
    best = int(np.argmin(errors))
    if not errors[best] <= CLOSE * max(1.0, float(np.abs(column).max())):
        raise ValueError("follows no rule that continues it")
    return np.asarray(rules[best])


def _wave(column: Array, known: Array, at: Array, function: np.ufunc) -> Array:
    """``function(w * position)`` for the ``w`` that fits best.

    Roughly by the longest beginning without a turn, then by Newton's method over longer and longer
    parts, each of which fixes the frequency more exactly.
    """
    cosine = function is np.cos
    falls = np.diff(column) <= 0 if cosine else np.diff(column) >= 0
    part = int(np.argmin(falls)) if not falls.all() else len(column) - 1
    part = max(part if cosine else part - part // 4, 1)
    turn = column[part].clip(-1, 1)
    w = float(np.arccos(turn) if cosine else np.arcsin(turn)) / part
    while True:
        part = min(2 * part, len(known))
        x, y = known[:part], column[:part]
        for _ in range(4):
            gradient = x * (-np.sin(w * x) if cosine else np.cos(w * x))
            scale = float(gradient @ gradient)
            if scale > 0:
                w -= float(gradient @ (function(w * x) - y)) / scale
        if part == len(known):
            return np.asarray(function(w * at))


def _mask(data: Array, query: int, key: int, length: int) -> Array:
    """A mask of scores, cut or continued."""
    own = data.shape[query]
    if length <= own:
        at = np.arange(length)
        return np.ascontiguousarray(data.take(at, query).take(at, key))
    known = np.moveaxis(data, (query, key), (-2, -1))
    gap = np.arange(length)[:, None] - np.arange(length)
    out = np.empty((*known.shape[:-2], length, length), data.dtype)
    for index in np.ndindex(*known.shape[:-2]):
        part = known[index]
        values = part[:, 0].astype(np.float64)  # by distance, as the first column has them
        more = values if part.dtype == bool else _continued(values, length)
        if part.dtype == bool:
            if len(set(values)) > 1:
                raise ValueError("follows no rule that continues it")
            more = np.full(length, values[0])
        out[index] = np.where(gap >= 0, more[gap.clip(0)], part[0, -1])
        if not np.array_equal(out[index][:own, :own], part):
            raise ValueError("follows no rule that continues it")
    return np.ascontiguousarray(np.moveaxis(out, (-2, -1), (query, key)))
