"""What an integer network takes beside the weights whose bits are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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


def within_bytes(
    budget: float,
    graph: Graph,
    context: Context,
    coder: QuantizeStatic,
    sites: Sequence[Site],
    candidates: Sequence[int],
    losses: Sequence[Array],
) -> tuple[list[int], int]:
    """The bits of every layer's weights of least loss within a budget, and the bytes they make.

    ``budget``: bytes of all constants of the integer network, as the ledger counts them; at most 1
    a fraction of those with the bits that ``coder`` gives all layers.  ``losses``: ``[candidates]``
    per site.  ``PreconditionError`` with the least possible where it cannot be met.
    """
    fixed = _others(graph, context, coder)
    uniform = fixed + sum(_taken(s.size, coder.weight_bits) for s in sites)
    limit = budget * uniform if budget <= 1 else budget
    costs = [np.array([_taken(s.size, b) for b in candidates], float) for s in sites]
    chosen = allocate(costs, losses, limit - fixed)
    if chosen is None:
        least = fixed + sum(int(c.min()) for c in costs)
        raise PreconditionError(
            f"allocate-bits.bytes = {budget:g} cannot be met: the least are {least} bytes, "
            f"{least / uniform:.3f} of the {uniform} with {coder.weight_bits} bits everywhere, of "
            f"which {fixed} are no weights in codes"
        )
    taken = fixed + sum(int(c[k]) for c, k in zip(costs, chosen, strict=True))
    return [candidates[k] for k in chosen], taken


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
