"""Gradients for passes: by torch, where it is installed, imported when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir.errors import BackendError
from .ir.graph import Graph
from .passes.context import Run


@dataclass(frozen=True)
class TorchGradients:
    """The ``Gradients`` of passes; random signs come from ``seed``."""

    seed: int = 0

    def open(self, graph: Graph, names: Sequence[str]) -> Run:
        """See the protocol.  ``BackendError`` without torch, and for ops without a form in it."""
        try:
            from .backends.torch_fx.gradients import differentiate
        except ImportError as error:
            raise BackendError(
                "gradients need torch, which is not installed: pip install 'qc-compiler[torch]'"
            ) from error
        return differentiate(graph, names, self.seed)
