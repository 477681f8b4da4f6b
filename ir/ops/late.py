"""Ops whose attributes are known only at run time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..types import Array, Dim, Shape, TensorType
from .base import Op, Operands, given, normal_axis, operand
from .elementwise import Identity
from .index import OneHot
from .reduce import Reduce, TopK
from .shape import Split, Squeeze, Unsqueeze
from .spectral import DFT, STFT
from .windows import Col2Im, MaxUnpool

if TYPE_CHECKING:
    from ..graph import Value


@dataclass(frozen=True)
class Late(Op):
    """``op``, with the attributes ``names`` taken from operands.

    Operands: those of ``op``, then one for each name.  Ranks are known, dimensions that depend on
    the attributes are new symbols.  Where an operand becomes known, the builder puts it into
    ``op``; so this op stands only where a network really decides at run time.  With
    ``keep_if_empty``
    an attribute operand without elements leaves the first operand as it is.
    """

    op: Op = field(default_factory=Identity)
    names: tuple[str, ...] = ()
    keep_if_empty: bool = False

    def infer(self, ins: Operands) -> list[TensorType]:
        count = len(ins) - len(self.names)
        late = {n: operand(ins, count + i) for i, n in enumerate(self.names)}
        return _types(self.op, ins[:count], late)

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        count = len(ins) - len(self.names)
        found = {n: given(ins, count + i) for i, n in enumerate(self.names)}
        if self.keep_if_empty and not all(a.size for a in found.values()):
            return [given(ins)]
        return settled(self.op, found).eval(ins[:count])


def settled(op: Op, found: dict[str, Array]) -> Op:
    """``op`` with attributes from arrays: numbers, or tuples of integers (``ValueError`` else)."""
    defaults = {f.name: f.default for f in fields(op)}
    values: dict[str, Any] = {}
    for name, array in found.items():
        default = defaults[name]
        if isinstance(default, float):
            values[name] = array.reshape(-1)[0].item()
        elif isinstance(default, int):
            values[name] = int(array.reshape(-1)[0])
        elif array.dtype.kind not in "iu":
            raise ValueError(f"{name} are of type {array.dtype.name}, not integers")
        else:
            values[name] = tuple(int(v) for v in array.ravel())
    if isinstance(op, Reduce) and not values.get("axes", True):
        values["axes"] = None
    return replace(op, **values)


def _types(op: Op, ins: Operands, late: dict[str, Value]) -> list[TensorType]:
    """The types of the results as far as they are known."""
    x = operand(ins, 0).type
    base = "~".join(_symbol(v.name) for v in (operand(ins, 0), *late.values()))

    def fresh(rank: int) -> Shape:
        return tuple(f"{base}.{i}" for i in range(rank))

    match op:
        case Reduce() if op.keepdims:
            dims = [1 if d == 1 else f for d, f in zip(x.shape, fresh(x.rank), strict=True)]
            return [TensorType(op.infer(ins)[0].dtype, tuple(dims))]
        case Reduce():
            left = x.rank - _length(late["axes"].type)
            return [TensorType(op.infer(ins)[0].dtype, fresh(left))]
        case Squeeze():
            return [TensorType(x.dtype, fresh(x.rank - _length(late["axes"].type)))]
        case Unsqueeze():
            return [TensorType(x.dtype, fresh(x.rank + _length(late["axes"].type)))]
        case TopK():
            shape = _with(x.shape, op.axis, *fresh(1))
            return [TensorType(x.dtype, shape), TensorType("int64", shape)]
        case OneHot():
            a = normal_axis(op.axis, x.rank + 1)
            return [TensorType(operand(ins, 1).type.dtype, (*x.shape[:a], *fresh(1), *x.shape[a:]))]
        case Col2Im():
            return [TensorType(x.dtype, fresh(2 + _length(next(iter(late.values())).type)))]
        case MaxUnpool() if "shape" in late:
            return [TensorType(x.dtype, fresh(x.rank))]
        case DFT():
            pair = 1 if op.onesided and op.inverse else 2
            return [TensorType(x.dtype, (*fresh(x.rank - 1), pair))]
        case STFT():
            return [TensorType(x.dtype, (x.shape[0], *fresh(2), 2))]
        case Split():
            parts = fresh(_length(late["sizes"].type))
            return [TensorType(x.dtype, _with(x.shape, op.axis, part)) for part in parts]
    return op.infer(ins)


def _with(shape: Shape, axis: int, d: Dim) -> Shape:
    a = normal_axis(axis, len(shape))
    return (*shape[:a], d, *shape[a + 1 :])


def _length(t: TensorType) -> int:
    """Number of elements of a vector or scalar."""
    if t.rank == 0:
        return 1
    if t.rank > 1 or not isinstance(t.shape[0], int):
        raise ValueError(f"the rank of the result, the length of {t}, is not known")
    return t.shape[0]


def _symbol(name: str) -> str:
    return re.sub(r"[^\w.]", "_", name)
