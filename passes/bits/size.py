"""What an integer network takes beside the weights whose bits are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph
from ...ir.ops.integer import QConv, QMatMul
from ...ir.stored import stored_bytes
from ...ir.types import Array
from ..context import Context, Widths
from ..fold_integers import FoldIntegers
from ..measure import weight_bytes
from ..quantize import QuantizeStatic
from .knapsack import allocate
from .sites import Site


@dataclass(frozen=True)
class ByteBudget:
    """At most ``limit`` bytes: ``fixed`` ones, and ``costs[i][k]`` of site i with candidate k."""

    limit: float
    fixed: int
    costs: Sequence[Array]
    candidates: Sequence[int]

    @staticmethod
    def of(
        budget: float,
        graph: Graph,
        context: Context,
        coder: QuantizeStatic,
        sites: Sequence[Site],
        candidates: Sequence[int],
    ) -> ByteBudget:
        """``budget``: bytes of all constants of the integer network, as the ledger counts them.

        At most 1 it is a fraction of those with the bits that ``coder`` gives all layers.
        ``PreconditionError`` with the least possible where it cannot be met.
        """
        fixed = _others(graph, context, coder)
        uniform = fixed + sum(_taken(s.size, coder.weight_bits) for s in sites)
        costs = [np.array([_taken(s.size, b) for b in candidates], float) for s in sites]
        limit = budget * uniform if budget <= 1 else budget
        least = fixed + sum(int(c.min()) for c in costs)
        if least > limit:
            raise PreconditionError(
                f"allocate-bits.bytes = {budget:g} cannot be met: the least are {least} bytes, "
                f"{least / uniform:.3f} of the {uniform} with {coder.weight_bits} bits "
                f"everywhere, of which {fixed} are no weights in codes"
            )
        return ByteBudget(limit, fixed, costs, candidates)

    def met(self, losses: Sequence[Array]) -> tuple[list[int], int]:
        """The bits of every site of least loss (``[candidates]`` each), and the bytes they make."""
        chosen = allocate(self.costs, losses, self.limit - self.fixed)
        assert chosen is not None
        taken = self.fixed + sum(int(c[k]) for c, k in zip(self.costs, chosen, strict=True))
        return [self.candidates[k] for k in chosen], taken


def _taken(size: int, bits: int) -> int:
    return -(-size * bits // 8)


def _others(graph: Graph, context: Context, coder: QuantizeStatic) -> int:
    """Bytes of constants that are no weights in codes, after the quickest quantization."""
    trial = graph.copy()
    quiet = replace(
        context, evaluate=None, progress=None, moments={}, why_float={}, widths=Widths()
    )
    coder.draft().apply(trial, quiet)
    FoldIntegers().apply(trial, quiet)
    weights = [n.operands[1] for n in trial.nodes if isinstance(n.op, QConv | QMatMul)]
    return weight_bytes(trial) - sum(stored_bytes(w.data) for w in weights if w.data is not None)
