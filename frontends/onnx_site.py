"""One node of an ONNX file, as an import rule sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.builder import Builder
from ..ir.errors import FrontendError
from ..ir.graph import Origin, Value
from ..ir.ops.base import Op
from ..ir.ops.late import Late
from ..ir.types import Array


class Unsupported(Exception):
    """A node that cannot be imported; the message says why.  The importer collects them all."""


@dataclass(frozen=True)
class Site:
    """The node: its type, opset, attributes (decoded), operands and the names of its results."""

    kind: str
    name: str
    opset: int
    attributes: dict[str, object]
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    builder: Builder

    # -- operands ----------------------------------------------------------------------------

    def input(self, index: int) -> Value:
        """Operand ``index``, which must be present."""
        value = self.optional(index)
        if value is None:
            raise self.error(f"operand {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """Operand ``index`` if it is there."""
        return self.inputs[index] if index < len(self.inputs) else None

    def static(self, index: int, what: str) -> Array | None:
        """The elements of operand ``index`` (None if it is absent), which must be known."""
        value = self.optional(index)
        if value is None:
            return None
        array = self.builder.static(value)
        if array is None:
            raise Unsupported(f"{what} (%{value.name}) is not constant")
        return array

    def static_ints(self, index: int, what: str) -> tuple[int, ...] | None:
        """Operand ``index`` as integers."""
        array = self.static(index, what)
        return None if array is None else tuple(int(i) for i in array.ravel())

    # -- attributes --------------------------------------------------------------------------

    def ints(self, name: str) -> tuple[int, ...] | None:
        """An attribute of integers."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(i, int) for i in value):
            raise self.error(f"attribute {name} is {value!r}, not integers")
        return tuple(value)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.error(f"attribute {name} is {value!r}, not an integer")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        return bool(self.integer(name, default))

    def number(self, name: str, default: float) -> float:
        """A number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise self.error(f"attribute {name} is {value!r}, not a number")
        return float(np.float32(value))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise self.error(f"attribute {name} is {value!r}, not a string")
        return value

    # -- results -----------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        """Where new nodes come from."""
        return Origin(self.name)

    def wants(self, index: int) -> bool:
        """Whether the node has a result ``index``."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def only(self, count: int, why: str) -> None:
        """Reject a node that has more than ``count`` results."""
        if any(self.wants(i) for i in range(count, len(self.outputs))):
            raise Unsupported(why)

    def emit(self, op: Op, *ins: Value | None) -> Value:
        """An intermediate result."""
        name = f"{self.outputs[0]}.{op.name.lower()}"
        return self.builder.emit(op, ins, [name], self.origin)[0]

    def results(self, op: Op, *ins: Value | None) -> list[Value]:
        """The node's own results."""
        return self.builder.emit(
            op, ins, [o or f"{self.kind}.{i}" for i, o in enumerate(self.outputs)], self.origin
        )

    def late(self, op: Op, given: dict[str, Value | None], *ins: Value | None) -> list[Value]:
        """The node's own results, of ``op`` with attributes from operands where there are any."""
        present = {name: value for name, value in given.items() if value is not None}
        if not present:
            return self.results(op, *ins)
        return self.results(Late(op, tuple(present)), *ins, *present.values())

    def constant(self, array: Array | Sequence[object] | float, like: Value | None = None) -> Value:
        """A constant, of the element type of ``like``."""
        data = np.asarray(array)
        data = data if like is None else data.astype(like.type.dtype)
        return self.builder.constant(data, f"{self.outputs[0]}.c")

    def error(self, what: str) -> FrontendError:
        """A malformed node."""
        return FrontendError(f"{self.where}: {what}")

    @property
    def where(self) -> str:
        """The node in an error message."""
        return f"node {self.name!r} ({self.kind}, opset {self.opset})"


Rule = Callable[[Site], Sequence[Value]]
