"""One call in an exported PyTorch program, as an import rule sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.builder import Builder
from ..ir.errors import FrontendError
from ..ir.graph import Origin, Value
from ..ir.ops.base import Op
from ..ir.ops.elementwise import Cast
from ..ir.ops.shape import Concat, Reshape
from ..ir.types import Array, TensorType
from .onnx_site import Unsupported

_RANKS = ("bool", "integer", "float")


@dataclass(frozen=True)
class Size:
    """A size that is known at run time only (torch's ``SymInt``): a value, ``int64[1]``."""

    value: Value


@dataclass(frozen=True)
class Site:
    """The call: its overload, module path, arguments by name, names and types of its results.

    Tensors among the arguments are values, sizes that are not known :class:`Size`; ``types`` are
    what torch says of the results, half precision as float32 (None: not a tensor).
    """

    target: str
    name: str
    arguments: Mapping[str, object]
    outputs: tuple[str, ...]
    types: tuple[TensorType | None, ...]
    builder: Builder

    # -- arguments ---------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """A tensor, which must be given."""
        found = self.optional(name)
        if found is None:
            raise self.error(f"argument {name} is missing")
        return found

    def optional(self, name: str) -> Value | None:
        """A tensor, if it is given."""
        found = self.arguments.get(name)
        if found is not None and not isinstance(found, Value):
            raise self.error(f"argument {name} is {found!r}, not a tensor")
        return found

    def values(self, name: str) -> list[Value]:
        """A list of tensors."""
        found = self.arguments.get(name)
        if not isinstance(found, list | tuple) or not all(isinstance(v, Value) for v in found):
            raise self.error(f"argument {name} is {found!r}, not tensors")
        return list(found)

    def has(self, name: str) -> bool:
        """Whether an argument is given and is not None."""
        return self.arguments.get(name) is not None

    def integer(self, name: str) -> int:
        """An integer that is known."""
        return self._known(name, self.arguments.get(name))

    def ints(self, name: str) -> tuple[int, ...]:
        """Integers that are known; one alone counts as a list, None as none."""
        found = self.arguments.get(name)
        items = found if isinstance(found, list | tuple) else [] if found is None else [found]
        return tuple(self._known(name, i) for i in items)

    def _known(self, name: str, item: object) -> int:
        if isinstance(item, Size):
            known = self.builder.static(item.value)
            if known is None:
                raise Unsupported(f"{name} is not constant")
            return int(known[0])
        if not isinstance(item, int):
            raise self.error(f"argument {name} is {item!r}, not an integer")
        return int(item)

    def number(self, name: str) -> float:
        """A number."""
        found = self.arguments.get(name)
        if not isinstance(found, int | float):
            raise Unsupported(f"{name} is {found!r}, not a constant number")
        return float(found)

    def flag(self, name: str) -> bool:
        """A truth."""
        return bool(self.arguments.get(name))

    def text(self, name: str) -> str:
        """A string."""
        return str(self.arguments.get(name))

    # -- tensors of one element type ---------------------------------------------------------

    @property
    def dtype(self) -> str:
        """The element type of the first result."""
        first = self.types[0]
        if first is None:
            raise self.error("its result is not a tensor")
        return first.dtype

    def operands(self, *names: str, dtype: str | None = None) -> list[Value]:
        """Tensors and numbers as tensors of ``dtype``, else of the type torch promotes them to."""
        found = [self.arguments.get(n) for n in names]
        wide = dtype or promoted(found)
        return [self.tensor(f, wide) for f in found]

    def tensor(self, item: object, dtype: str) -> Value:
        """A tensor, number or size as a tensor of ``dtype``; what is no tensor is a scalar."""
        if isinstance(item, Size):
            item = self.emit(Reshape(()), item.value)
        if isinstance(item, Value):
            return self.cast(item, dtype)
        if not isinstance(item, bool | int | float):
            raise self.error(f"{item!r} is neither a tensor nor a number")
        return self.constant(np.asarray(item).astype(dtype))

    def cast(self, x: Value, dtype: str) -> Value:
        """``x`` with another element type."""
        return x if x.type.dtype == dtype else self.emit(Cast(dtype), x)

    def shape(self, name: str) -> tuple[int, ...] | Value:
        """A list of sizes: numbers, or an ``int64`` vector where some are not known."""
        found = self.arguments.get(name)
        items = list(found) if isinstance(found, list | tuple) else [found]
        return self.sizes(items)

    def sizes(self, items: Sequence[object]) -> tuple[int, ...] | Value:
        """Integers and :class:`Size` as numbers, or as an ``int64`` vector."""
        if all(isinstance(i, int) for i in items):
            return tuple(i for i in items if isinstance(i, int))
        parts = [
            i.value if isinstance(i, Size) else self.constant(np.asarray([i], np.int64))
            for i in items
        ]
        return parts[0] if len(parts) == 1 else self.emit(Concat(0), *parts)

    # -- results -----------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        """Where new nodes come from."""
        return Origin(self.name)

    def emit(self, op: Op, *ins: Value | None) -> Value:
        """An intermediate result."""
        return self.emit_all(op, 1, *ins)[0]

    def emit_all(self, op: Op, count: int, *ins: Value | None) -> list[Value]:
        """Intermediate results, of an op that has several."""
        name = f"{self.outputs[0]}.{op.name.lower()}"
        return self.builder.emit(op, ins, [name] * count, self.origin)

    def results(self, op: Op, *ins: Value | None) -> list[Value]:
        """The call's own results."""
        return self.builder.emit(op, ins, self.outputs, self.origin)

    def shaped(self, x: Value, shape: tuple[int, ...] | Value) -> list[Value]:
        """The call's result: ``x`` in another shape."""
        if isinstance(shape, Value):
            return self.results(Reshape(), x, shape)
        if shape == x.type.shape:
            return [x]
        return self.results(Reshape(shape, allowzero=0 in shape and -1 not in shape), x)

    def constant(self, array: Array) -> Value:
        """A constant."""
        return self.builder.constant(array, f"{self.outputs[0]}.c")

    def error(self, what: str) -> FrontendError:
        """A call that cannot be right."""
        return FrontendError(f"{self.where}: {what}")

    @property
    def where(self) -> str:
        """The call in an error message."""
        return f"{self.name!r} ({self.target})"


def promoted(items: Sequence[object]) -> str:
    """The element type in which torch combines tensors, numbers and sizes.

    Tensors with axes decide; scalars, then numbers, only if they are of a higher kind (bool,
    integer, float).  See "Type promotion" in torch's documentation of tensor attributes.
    """
    tensors = [i for i in items if isinstance(i, Value)]
    groups = (
        [t.type.dtype for t in tensors if t.type.rank],
        [t.type.dtype for t in tensors if not t.type.rank],
        [_python_type(i) for i in items if not isinstance(i, Value)],
    )
    found: str | None = None
    for group in groups:
        wide = _widest(group)
        if wide is not None and (found is None or _rank(wide) > _rank(found)):
            found = wide
    assert found is not None
    return found


def _python_type(item: object) -> str:
    if isinstance(item, bool):
        return "bool"
    return "float32" if isinstance(item, float) else "int64"


def _rank(dtype: str) -> int:
    kinds = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}
    return _RANKS.index(kinds[np.dtype(dtype).kind])


def _widest(dtypes: Sequence[str]) -> str | None:
    if not dtypes:
        return None
    top = max(map(_rank, dtypes))
    return np.result_type(*(d for d in dtypes if _rank(d) == top)).name


Rule = Callable[[Site], Sequence[Value | None]]
