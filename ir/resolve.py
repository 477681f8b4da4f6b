"""Static operands become attributes: shapes, repeats, pads, bounds of slices, sizes.

One rule per op; each takes what is known of an operand and gives the op that no longer reads it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .graph import Value
from .ops.base import Op
from .ops.elementwise import Identity
from .ops.index import Pad, Slice
from .ops.late import Late, settled
from .ops.resize import Resize
from .ops.shape import ConstantOfShape, Expand, Reshape, Tile
from .types import Array, Dim, Shape

Known = Callable[[Value | None], Array | None]
Resolved = tuple[Op, Sequence[Value | None]]


def resolve(op: Op, ins: Sequence[Value | None], known: Known) -> Resolved:
    """``op`` with what is known of its operands as attributes, and the operands that remain."""
    match op:
        case Reshape() if len(ins) > 1:
            return _reshape(op, ins, known)
        case Expand() if len(ins) > 1:
            return _expand(op, ins, known)
        case ConstantOfShape() if ins:
            return _constant_of_shape(op, ins, known)
        case Tile() if len(ins) > 1 and (repeats := _ints(known(ins[1]))) is not None:
            return replace(op, repeats=repeats), ins[:1]
        case Pad() if len(ins) > 1 and (pads := _ints(known(ins[1]))) is not None:
            return replace(op, pads=pads), ins[:1]
        case Slice() if len(ins) > 1:
            return _slice(op, ins, known)
        case Resize() if len(ins) > 1:
            return _resize(op, ins, known)
        case Late():
            return _late(op, ins, known)
    return op, ins


def _late(op: Late, ins: Sequence[Value | None], known: Known) -> Resolved:
    count = len(ins) - len(op.names)
    facts = {n: known(v) for n, v in zip(op.names, ins[count:], strict=True)}
    found = {n: f for n, f in facts.items() if f is not None and f.dtype != np.dtype(object)}
    inner = settled(op.op, found)
    rest = [(n, v) for n, v in zip(op.names, ins[count:], strict=True) if n not in found]
    if op.keep_if_empty and not all(f.size for f in found.values()):
        return Identity(), ins[:1]
    if not rest:
        return resolve(inner, ins[:count], known)
    late = replace(op, op=inner, names=tuple(n for n, _ in rest))
    return late, [*ins[:count], *(v for _, v in rest)]


def _ints(fact: Array | None) -> tuple[int, ...] | None:
    if fact is None or fact.dtype == np.dtype(object):
        return None
    return tuple(int(i) for i in fact.ravel())


def _dims(fact: Array | None) -> Shape | None:
    return (
        None if fact is None else tuple(d if isinstance(d, str) else int(d) for d in fact.tolist())
    )


def _reshape(op: Reshape, ins: Sequence[Value | None], known: Known) -> Resolved:
    shape = _dims(known(ins[1]))
    if shape is None or ins[0] is None:
        return replace(op, shape=None), ins
    own = ins[0].type.shape
    target: list[Dim] = list(shape)
    if not op.allowzero:
        for i, d in enumerate(shape):
            if isinstance(d, str) and i < len(own) and own[i] == d:
                target[i] = 0
    symbols = [i for i, d in enumerate(target) if isinstance(d, str)]
    if len(symbols) == 1 and -1 not in target and not (op.allowzero and 0 in target):
        target[symbols[0]] = -1
        symbols = []
    return replace(op, shape=tuple(target)), ins if symbols else ins[:1]


def _expand(op: Expand, ins: Sequence[Value | None], known: Known) -> Resolved:
    shape = _dims(known(ins[1]))
    if shape is None or ins[0] is None:
        return replace(op, shape=None), ins
    own = ins[0].type.shape
    target: list[Dim] = list(shape)
    for i in range(1, min(len(own), len(target)) + 1):
        if isinstance(target[-i], str) and own[-i] == target[-i]:
            target[-i] = 1
    dynamic = any(isinstance(d, str) for d in target)
    return replace(op, shape=tuple(target)), ins if dynamic else ins[:1]


def _constant_of_shape(op: ConstantOfShape, ins: Sequence[Value | None], known: Known) -> Resolved:
    shape = _dims(known(ins[0]))
    if shape is None or any(isinstance(d, str) for d in shape):
        return replace(op, shape=shape), ins
    return replace(op, shape=shape), ()


def _slice(op: Slice, ins: Sequence[Value | None], known: Known) -> Resolved:
    parts = [*ins[1:], None, None, None][:4]
    facts = [_ints(known(v)) for v in parts]
    if any(f is None and v is not None for f, v in zip(facts, parts, strict=True)):
        axes = facts[2]
        return replace(op, starts=None, ends=None, axes=axes, steps=None), ins
    starts, ends, axes, steps = facts
    return Slice(starts, ends, axes, steps), ins[:1]


def _resize(op: Resize, ins: Sequence[Value | None], known: Known) -> Resolved:
    fact = known(ins[1])
    if fact is None or fact.dtype == np.dtype(object):
        return _resize_symbols(op, ins, fact)
    if fact.dtype.kind == "f":
        return replace(op, scales=tuple(float(s) for s in fact), sizes=None), ins[:1]
    return replace(op, sizes=tuple(int(s) for s in fact), scales=None), ins[:1]


def _resize_symbols(op: Resize, ins: Sequence[Value | None], fact: Array | None) -> Resolved:
    """Sizes whose only symbols are the operand's own dimensions, which stay (-1)."""
    if fact is not None and ins[0] is not None and len(fact) == ins[0].type.rank:
        pairs = zip(fact.tolist(), ins[0].type.shape, strict=True)
        sizes = [-1 if d == own else d for d, own in pairs]
        if not any(isinstance(d, str) for d in sizes):
            return replace(op, sizes=tuple(int(d) for d in sizes), scales=None), ins[:1]
    return replace(op, sizes=None, scales=None), ins
