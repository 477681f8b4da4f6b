"""The contract of steps: what they give, one after another, is what the whole network gives."""

from __future__ import annotations

import numpy as np

from ...ir.errors import ContractError
from ...ir.evaluate import evaluate
from ...ir.graph import Graph
from ...ir.types import Array
from ..manager import EXACT_TOLERANCE
from ..measure import relative_difference, sqnr_db
from .step import POSITION, empty_states

STEPS = 16
"""Single tokens that are compared after those taken together."""

CODES_DB = 40.0
"""Where codes follow float sums another last bit may move a code; what that changes lies so far
below the outputs."""


def check_steps(whole: Graph, prompt: Graph, step: Graph, tokens: Array) -> int:
    """Compare prompt and steps with the whole network on ``tokens``; how many positions were.

    ``tokens``: ``[batch, capacity]``.  Raises ``ContractError`` where an output differs.
    """
    (name,) = (v.name for v in whole.inputs)
    names = [v.name for v in whole.outputs]
    want = evaluate(whole, {name: tokens})
    state = empty_states(prompt)
    at, got = 0, {n: list[Array]() for n in names}
    for graph, count in [(prompt, 1), (step, STEPS)]:
        size = graph.inputs[0].shape[1]
        for _ in range(min(count, (tokens.shape[1] - at) // size)):
            places = np.arange(at, at + size, dtype=np.int64)
            found = evaluate(graph, {name: tokens[:, places], POSITION: places, **state})
            state = {before: found[after] for before, after in graph.states}
            for n in names:
                got[n].append(found[n])
            at += size
    left, right = [want[n][:, :at] for n in names], [np.concatenate(got[n], 1) for n in names]
    worst, db = relative_difference(left, right), sqnr_db(left, right)
    coded = "integer" in whole.properties and db >= CODES_DB
    if not worst <= EXACT_TOLERANCE and not coded:
        raise ContractError(
            f"token by token the outputs differ by {worst:.2g} (relative) from those of the whole "
            f"sequence, {db:.1f} dB; a bug of qc: please report it"
        )
    return at
