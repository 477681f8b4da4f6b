"""A node of a foreign domain: kept, never understood."""

from dataclasses import dataclass

from ..types import TensorType
from .base import Op, Operands


@dataclass(frozen=True)
class Opaque(Op):
    """An op whose meaning is unknown; ``types`` are what the file says of its results.

    It pins all axes of its operands and results, cannot be evaluated, and code generation refuses
    it.  ``settings`` are the node's attributes, ``(name, value)``.
    """

    kind: str = ""
    source_domain: str = ""
    settings: tuple[tuple[str, object], ...] = ()
    types: tuple[TensorType, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        return list(self.types)
