"""What a pass is: a frozen dataclass of options with a contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ..ir.graph import Graph
    from .context import Context

Statistics = dict[str, int | float | str]


class Kind(Enum):
    """The contract of a pass, which the manager verifies on real inputs."""

    ANALYSIS = "analysis"
    """Does not touch the graph."""
    EXACT = "exact"
    """Leaves the network's function alone (up to float32 rounding)."""
    LOSSY = "lossy"
    """Changes the function and reports what that costs."""
    LOWERING = "lowering"
    """Says the same in other ops: integers stay bit for bit."""


@dataclass(frozen=True)
class Pass:
    """A graph transformation; its fields are its options in Python, recipes and ``--set`` alike."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()

    def apply(self, graph: Graph, context: Context) -> Statistics:
        """Change ``graph`` in place; statistics with at least ``rewrites``."""
        raise NotImplementedError(self.name)

    @property
    def timed(self) -> bool:
        """Whether it works with times, and so is better where somebody measures them."""
        return False

    def draft(self) -> Pass | None:
        """A pass whose result takes as long on a target, as quick as can be; None: leave it out."""
        return self
