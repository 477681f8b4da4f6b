"""Sequences whose length is known: lists of values that exist only while a model is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.graph import Value
from ..ir.ops.base import normal_axis
from ..ir.ops.late import Late
from ..ir.ops.shape import Concat, Split, Squeeze, Unsqueeze
from .onnx_site import Site, Unsupported


@dataclass(frozen=True)
class Items:
    """A sequence of tensors."""

    values: tuple[Value, ...] = ()


Operand = Value | Items | None
Rule = Callable[[Site, Sequence[Operand]], Value | Items]


def construct(site: Site, operands: Sequence[Operand]) -> Items:
    """SequenceConstruct and SequenceEmpty."""
    return Items(tuple(v for v in operands if isinstance(v, Value)))


def insert(site: Site, operands: Sequence[Operand]) -> Items:
    """SequenceInsert."""
    values = list(_items(site, operands).values)
    end = len(values)
    values.insert(_position(site, 2, end, end) if len(operands) > 2 else end, site.input(1))
    return Items(tuple(values))


def erase(site: Site, operands: Sequence[Operand]) -> Items:
    """SequenceErase."""
    values = list(_items(site, operands).values)
    del values[_position(site, 1, len(values)) if len(operands) > 1 else -1]
    return Items(tuple(values))


def at(site: Site, operands: Sequence[Operand]) -> Value:
    """SequenceAt."""
    values = _items(site, operands).values
    return values[_position(site, 1, len(values))]


def length(site: Site, operands: Sequence[Operand]) -> Value:
    """SequenceLength."""
    return site.constant(np.asarray(len(_items(site, operands).values), np.int64))


def concat(site: Site, operands: Sequence[Operand]) -> Value:
    """ConcatFromSequence."""
    values, axis = _items(site, operands).values, site.integer("axis", 0)
    if site.flag("new_axis"):
        values = tuple(site.emit(Unsqueeze((axis,)), v) for v in values)
    return site.results(Concat(axis), *values)[0] if len(values) > 1 else values[0]


def split(site: Site, operands: Sequence[Operand]) -> Items:
    """SplitToSequence."""
    x, sizes = site.input(0), site.optional(1)
    axis = normal_axis(site.integer("axis", 0), x.type.rank)
    if sizes is not None and sizes.type.rank == 1:
        return Items(_parts(site, Late(Split(axis), ("sizes",)), x, sizes))
    whole = x.type.shape[axis]
    if not isinstance(whole, int):
        raise Unsupported(f"the number of parts of dimension {whole!r} is not known")
    known = site.static_ints(1, "the size of the parts")
    part = known[0] if known else 1
    bounds = [*range(0, whole, part), whole]
    values = _parts(site, Split(axis, tuple(np.diff(bounds).tolist())), x)
    if known is None and not site.flag("keepdims", True):
        values = tuple(site.emit(Squeeze((axis,)), v) for v in values)
    return Items(values)


def _parts(site: Site, op: Split | Late, *ins: Value) -> tuple[Value, ...]:
    return tuple(site.builder.emit(op, ins, (), site.origin))


def _items(site: Site, operands: Sequence[Operand]) -> Items:
    if not operands or not isinstance(operands[0], Items):
        raise site.error("its first operand is not a sequence")
    return operands[0]


def _position(site: Site, index: int, count: int, last: int | None = None) -> int:
    """A position among ``count`` elements, up to ``last``; negative ones count from the end."""
    (found,) = site.static_ints(index, "the position") or (0,)
    if not -count <= found <= (count - 1 if last is None else last):
        raise site.error(f"position {found} is beyond the {count} elements")
    return found + count if found < 0 else found


SEQUENCES: dict[str, Rule] = {
    "ConcatFromSequence": concat,
    "SequenceAt": at,
    "SequenceConstruct": construct,
    "SequenceEmpty": construct,
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": length,
    "SplitToSequence": split,
}
