"""Deleting coupled channels from every tensor, attribute and shape that knows of them.

The result computes what the uncut graph computes with zeros wherever a deleted channel is summed
over (see ``mask``): means over a deleted axis keep the old divisor, RMS normalisation the old
count (``gamma' = gamma * sqrt(D'/D)``, ``epsilon' = epsilon * D/D'``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..coupling import Coupling
from ..errors import PassError
from ..graph import Graph, Node, Value
from ..ops.base import Op
from ..ops.elementwise import Mul
from ..ops.index import Gather, Pad, Slice
from ..ops.nn import Conv, ConvTranspose
from ..ops.norm import GroupNormalization, RMSNormalization
from ..ops.pool import GlobalAveragePool
from ..ops.reduce import ReduceMean
from ..ops.resize import Resize
from ..ops.shape import ConstantOfShape, Expand, Reshape, Split, Tile
from ..types import Array, Dim, Shape


def delete(coupling: Coupling, gone: Array) -> Graph:
    """A copy of the analysed graph without the components ``gone`` (bool ``[count]``).

    Values and nodes keep their names.  ``PassError`` if a component is pinned or a group would
    lose all its channels.
    """
    _check(coupling, gone)
    return _Deletion(coupling, gone).run()


def _check(coupling: Coupling, gone: Array) -> None:
    for group in coupling.groups:
        lost = int(gone[group.channels].sum())
        if lost and group.pinned:
            raise PassError(f"channels of {group.name} cannot be deleted: {group.pinned}")
        if lost == len(group):
            raise PassError(f"group {group.name} would lose all its {lost} channels")


class _Deletion:
    """One deletion: what stays of each value, and the graph that is built of it."""

    def __init__(self, coupling: Coupling, gone: Array) -> None:
        self.coupling, self.gone, self.source = coupling, gone, coupling.graph
        source = self.source
        self.out = Graph(source.name, states=list(source.states), properties=set(source.properties))
        self.twin: dict[int, Value] = {}

    def run(self) -> Graph:
        for value in self.source.inputs:
            self.twin[id(value)] = self.out.input(value.name, value.type)
        for value in self.source.constants:
            data, kept = np.asarray(value.data), self.keeps(value)
            for axis, stays in enumerate(kept):
                if not stays.all():
                    data = np.compress(stays, data, axis)
            typed = value.type.with_shape(data.shape)
            self.twin[id(value)] = self.out.constant(data, value.name, typed)
        for node in self.source.nodes:
            self._node(node)
        self.out.outputs = [self.twin[id(v)] for v in self.source.outputs]
        return self.out

    def keeps(self, value: Value) -> list[Array]:
        """What stays, per axis of a value."""
        return self.coupling.keeps(value, self.gone)

    def shape(self, value: Value) -> Shape:
        """The new shape of a value."""
        dims = zip(value.type.shape, self.keeps(value), strict=True)
        return tuple(d if isinstance(d, str) else int(k.sum()) for d, k in dims)

    def _node(self, node: Node) -> None:
        ins = [None if v is None else self.twin[id(v)] for v in node.inputs]
        values = (*node.operands, *node.outputs)
        if all(k.all() for v in values for k in self.keeps(v)):
            self._emit(node, node.op, ins)
        elif isinstance(node.op, Slice):
            self._take(node, ins, node.op.indices(node.operands[0].type.shape))
        elif isinstance(node.op, Gather) and node.operands[1].data is not None:
            self._lookup(node, node.op, ins)
        elif isinstance(node.op, ReduceMean | GlobalAveragePool):
            self._mean(node, ins)
        elif isinstance(node.op, RMSNormalization):
            self._rms(node, node.op, ins)
        else:
            self._emit(node, self._resized(node), ins)

    def _emit(self, node: Node, op: Op, ins: Sequence[Value | None]) -> None:
        names = [v.name for v in node.outputs]
        made = self.out.add(op, ins, names=names, origin=node.origin)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            if new.type.shape != self.shape(old):
                raise PassError(
                    f"{node!r} has shape {new.type.shape} without the deleted channels, "
                    f"not {self.shape(old)}; a bug of qc: please report it"
                )
            self.twin[id(old)] = new

    def _resized(self, node: Node) -> Op:
        """The op with attributes that count channels set anew."""
        op, y = node.op, node.output
        shape = self.shape(y)
        match op:
            case Conv():
                w = self.shape(node.operands[1])
                return replace(op, group=_count(self.shape(node.operands[0])[1]) // _count(w[1]))
            case ConvTranspose():
                return replace(
                    op, group=_count(shape[1]) // _count(self.shape(node.operands[1])[1])
                )
            case Reshape():
                return replace(op, shape=_target(op.shape or (), shape))
            case Expand():
                kept = shape[len(shape) - len(op.shape or ()) :]
                pairs = zip(op.shape or (), kept, strict=True)
                return replace(op, shape=tuple(d if d == 1 else k for d, k in pairs))
            case ConstantOfShape():
                return replace(op, shape=shape)
            case Tile():
                pairs = zip(shape, self.shape(node.operands[0]), strict=True)
                return replace(op, repeats=tuple(_count(n) // _count(d) for n, d in pairs))
            case Split():
                at = op.axis % y.type.rank
                return replace(op, sizes=tuple(_count(self.shape(v)[at]) for v in node.outputs))
            case Pad():
                return replace(op, pads=self._pads(op.pads or (), self.keeps(y)))
            case Resize(sizes=tuple()):
                pairs = zip(op.sizes or (), shape, strict=True)
                return replace(op, sizes=tuple(n if n == -1 else _count(d) for n, d in pairs))
            case GroupNormalization():
                before, after = _count(y.type.shape[1]), _count(shape[1])
                return replace(op, num_groups=op.num_groups * after // before)
        return op

    def _pads(self, pads: Sequence[int], kept: list[Array]) -> tuple[int, ...]:
        """Padding elements that stay; where a pad cuts, nothing was deleted."""
        rank, new = len(kept), list(pads)
        for axis, stays in enumerate(kept):
            before, after = pads[axis], pads[axis + rank]
            if not stays.all():
                new[axis] = int(stays[:before].sum())
                new[axis + rank] = int(stays[len(stays) - after :].sum())
        return tuple(new)

    def _renumbered(self, value: Value, axis: int, indices: Array) -> Array:
        """Where the elements ``indices`` that stay lie now."""
        stays = self.coupling.keep(value, axis, self.gone)
        flat = indices[stays[indices]] if indices.ndim else indices
        return np.asarray((np.cumsum(stays) - 1)[flat])

    def _take(self, node: Node, ins: Sequence[Value | None], taken: Sequence[Array]) -> None:
        """A slice: by bounds where what stays is a run, else element by element."""
        x = node.operands[0]
        shape, source = self.shape(x), ins[0]
        starts, ends, axes = [], [], []
        for axis, indices in enumerate(taken):
            if isinstance(shape[axis], str):
                raise PassError(f"{node!r}: axis {axis} has no known length")
            own = self._renumbered(x, axis, indices)
            if len(own) == shape[axis] and np.array_equal(own, np.arange(len(own))):
                continue
            if len(own) and np.array_equal(own, np.arange(own[0], own[0] + len(own))):
                starts.append(int(own[0]))
                ends.append(int(own[-1]) + 1)
                axes.append(axis)
            else:
                name = f"{node.output.name}.at{axis}"
                at = self.out.constant(own, name)
                picked = self.out.add(Gather(axis), [source, at], names=[name], origin=node.origin)
                source = picked.output
        self._emit(node, Slice(tuple(starts), tuple(ends), tuple(axes)), [source])

    def _lookup(self, node: Node, op: Gather, ins: Sequence[Value | None]) -> None:
        x, indices = node.operands
        axis = op.axis % x.type.rank
        known = np.asarray(indices.data) % _count(x.type.shape[axis])
        own = self._renumbered(x, axis, known).astype(indices.type.dtype)
        self._emit(node, op, [ins[0], self.out.constant(own, indices.name)])

    def _mean(self, node: Node, ins: Sequence[Value | None]) -> None:
        """The mean with the old divisor."""
        part = self._part(node)
        if part == 1:
            self._emit(node, node.op, ins)
            return
        name = node.output.name
        mean = self.out.add(node.op, ins, names=[f"{name}.rest"], origin=node.origin).output
        ratio = self.out.constant(np.asarray(part, mean.type.dtype), f"{name}.ratio")
        self._emit(node, Mul(), [mean, ratio])

    def _rms(self, node: Node, op: RMSNormalization, ins: Sequence[Value | None]) -> None:
        part, gamma = self._part(node), ins[1]
        if gamma is None or gamma.data is None:
            raise PassError(f"{node!r}: its scale is not constant")
        if part == 1:
            self._emit(node, op, ins)
            return
        scaled = (gamma.data / np.sqrt(part)).astype(gamma.type.dtype)
        weight = self.out.constant(scaled, gamma.name)
        self._emit(node, replace(op, epsilon=op.epsilon / part), [ins[0], weight])

    def _part(self, node: Node) -> float:
        """What part of the elements that a node sums over stays."""
        axes = {c.axis for c in self.coupling.relations.contractions if c.node is node}
        x = node.operands[0]
        return prod(float(k.mean()) for a, k in enumerate(self.keeps(x)) if (x, a) in axes)


def _target(old: Shape, new: Shape) -> Shape:
    """A reshape's target: what it infers or copies stays so."""
    return tuple(
        d if isinstance(d, str) or d in (0, -1) else n for d, n in zip(old, new, strict=True)
    )


def _count(d: Dim) -> int:
    if not isinstance(d, int):
        raise PassError(f"dimension {d!r} is not known; fix it with --input-shape")
    return d
