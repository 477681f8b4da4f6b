"""Errors of a layer's rows that make up for each other, by what the network's outputs notice.

Scores of an attention hardly notice most directions of queries and keys: there an error of one row
is taken back by the rows after it, as second-order rounding does with columns.  What the outputs
notice is measured by gradients, so it takes torch.

Source: Tseng et al., "Model-Preserving Adaptive Rounding", 2025, section 3 (the curvature of the
whole network as a product of two: of a layer's inputs, and of its outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...ir.errors import PreconditionError
from ...ir.graph import Graph, Value
from ...ir.ops.elementwise import Add
from ...ir.types import Array
from ..context import Context, Feed
from ..linear import Linear
from ..pruning.distortion import judged
from .group_steps import energies

CONCENTRATED = 0.4
"""Share of directions that count; where there are more of them, rows have little to take back."""

DAMPING = 0.1
"""Share of the mean curvature that is added to every row's own."""

TURNS = 512
"""Rounds of rows at most: rows of one round take nothing back from each other."""


def curvatures(
    graph: Graph, names: Iterable[str], context: Context, feeds: Sequence[Feed]
) -> dict[str, Array]:
    """float64 ``[outputs, outputs]`` by name of a layer's result, where it is concentrated.

    The mean, over positions, of what two channels' errors together do to the graph's outputs, which
    is 1 for a channel on average.  ``PreconditionError`` where nobody differentiates.
    """
    if context.gradients is None:
        raise PreconditionError(
            "encode.curvature needs gradients: qc.Context(gradients=qc.TorchGradients(), ...)"
        )
    work = graph.copy()
    moved = {}
    for name in names:
        maker = work[name].producer
        layer = Linear.of(maker) if maker is not None else None
        if layer is not None and layer.weights().shape[0] == 1:
            axis = 1 if layer.is_conv else layer.node.output.type.rank - 1
            moved[name] = _add_zeros(work, layer.node.output), axis
    sums = {name: np.zeros((work[name].shape[axis],) * 2) for name, (_, axis) in moved.items()}
    run = context.gradients.open(work, judged(work))
    for feed in feeds:
        found = run(feed)
        for name, (zeros, axis) in moved.items():
            rows = np.moveaxis(found[zeros], axis, -1).reshape(-1, len(sums[name]))
            sums[name] += rows.T.astype(np.float64) @ rows
    return {name: _damped(h) for name, h in sums.items() if _is_concentrated(h)}


def rounded_in_turn(
    rows: Array, spread: Array, curvature: Array, rounded: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Codes and steps of ``rows [1, outputs, K]``, that lose no more than rounded row by row.

    ``spread``: moments of the inputs ``[1, K, K]``; ``rounded`` gives codes and steps of some rows.
    Rows that count most are first; the rest take back what those err, and all of them once more.
    """
    best = rounded(rows)
    wanted, order = rows[0], np.argsort(-np.diagonal(curvature), kind="stable")
    parts = np.array_split(np.arange(len(order)), min(len(order), TURNS))
    inverse = np.linalg.inv(curvature[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    rest, codes, steps = wanted[order], np.empty_like(rows), np.empty_like(rows)
    for part in parts:
        at, own = order[part], factor[np.ix_(part, part)]
        codes[:, at], steps[:, at] = rounded(rest[None, part])
        error = np.linalg.solve(own.T, rest[part] - (codes * steps)[0, at])
        after = slice(part[-1] + 1, None)
        rest[after] -= factor[part, after].T @ error
    for part in parts:
        at = order[part]
        error = wanted - (codes * steps)[0]
        others = np.delete(np.arange(len(order)), at)
        pull = curvature[np.ix_(at, others)] @ error[others]
        target = wanted[at] + np.linalg.solve(curvature[np.ix_(at, at)], pull)
        codes[:, at], steps[:, at] = rounded(target[None])
    trials = [best, (codes, steps)]
    return min(trials, key=lambda t: noticed(t[0] * t[1] - rows, spread, curvature))


def noticed(errors: Array, spread: Array, curvature: Array | None) -> float:
    """Energy of what errors ``[groups, outputs, K]`` make of the outputs, or of the results."""
    if curvature is None:
        return float(energies(spread, errors).sum())
    return float(np.einsum("op,ok,pk->", curvature, errors[0] @ spread[0], errors[0]))


def _add_zeros(graph: Graph, y: Value) -> str:
    """Add a constant to a value, whose gradient is that of the value; the constant's name."""
    users = list(dict.fromkeys(y.uses))
    zeros = graph.constant(np.zeros(y.shape, y.type.dtype), f"{y.name}.zeros")
    before = min(users, key=graph.index) if users else None
    moved = graph.add(Add(), [y, zeros], names=[f"{y.name}.moved"], before=before).output
    for user in users:
        graph.set_inputs(user, [moved if v is y else v for v in user.inputs])
    if graph.is_output(y):
        graph.outputs[graph.outputs.index(y)] = moved
    return zeros.name


def _is_concentrated(h: Array) -> bool:
    values = np.linalg.eigvalsh(h)
    return bool(values.sum() ** 2 < CONCENTRATED * len(h) * np.square(values).sum())


def _damped(h: Array) -> Array:
    level = np.diagonal(h).mean()
    damped = h + DAMPING * level * np.eye(len(h))
    return np.asarray(damped / (level * (1 + DAMPING)))
