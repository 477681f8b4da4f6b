"""A ``torch.fx`` graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph as Lines
from torch.fx import Node as Step

from ...ir.errors import BackendError
from ...ir.graph import Node, Value
from ...ir.types import TensorType


@dataclass
class Site:
    """One node of ours, and how its operands become steps of the module under construction."""

    node: Node
    graph: Lines
    step: Callable[[Value], Step]

    def __getitem__(self, index: int) -> Step:
        return self.step(self.value(index))

    def optional(self, index: int) -> Step | None:
        """Operand ``index``, if it is given."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None else self.step(value)

    @property
    def given(self) -> list[Step]:
        """The operands that are given."""
        return [self.step(v) for v in self.node.operands]

    def value(self, index: int) -> Value:
        """Our value for operand ``index``."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            raise BackendError(f"{self.node.name!r}: operand {index} is missing")
        return value

    @property
    def type(self) -> TensorType:
        """The type of the first result."""
        return self.node.output.type

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Step:
        """A call of ``function``."""
        return self.graph.call_function(function, args, kwargs)

    def method(self, name: str, *args: Any) -> Step:
        """A call of a method of the first argument."""
        return self.graph.call_method(name, args)

    def scalar(self, index: int) -> float | int | bool | None:
        """Operand ``index`` as a number, if it is a constant scalar."""
        value = self.node.inputs[index]
        if value is None or value.data is None or value.type.rank:
            return None
        number: float | int | bool = value.data.item()
        return number

    def refuse(self, why: str) -> BackendError:
        """What is said of a node that has no form in torch."""
        return BackendError(f"{self.node.name!r} ({self.node.op.name}): {why}")


def dtype_of(name: str) -> torch.dtype:
    """torch's element type."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise BackendError(f"torch has no element type {name}")
    return found


Form = Callable[[Site], "Step | Sequence[Step]"]
