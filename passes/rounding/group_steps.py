"""Steps that blocks of weights share: searched before they are rounded, solved for afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ...ir.types import Array
from .elements import Elements
from .second_order import put_right

ROUNDS = 4
"""How often steps and codes are put right by each other."""

SWEEPS = 2


def searched(rows: Array, spread: Array, groups: Array | None, elements: Elements) -> Array:
    """Of every element of ``rows [groups, outputs, K]`` the step of least error of its block.

    ``spread``: moments of the inputs ``[groups, K, K]``; ``groups``: the block of every column of a
    row, int ``[K]``; None for blocks that lie along the outputs, within one column.
    """
    if groups is None:
        return _across(rows, spread, elements)
    steps = np.empty_like(rows)
    for group in range(groups.max() + 1):
        at = np.flatnonzero(groups == group)
        loss = partial(energies, spread[:, at[:, None], at])
        steps[..., at] = _searched(rows[..., at], loss, elements)[..., None]
    return steps


def refitted(
    rows: Array, codes: Array, steps: Array, spread: Array, groups: Array, elements: Elements
) -> tuple[Array, Array]:
    """Codes and steps ``[groups, outputs, K]`` of rows that lose no more than those given.

    The steps of a row are the least squares for its codes, all blocks together (the search sees one
    block at a time, and no errors fed back); then each code is put right by the others.  Formats
    whose steps are powers of two keep what they have.
    """
    lost = energies(spread, codes * steps - rows)
    for _ in range(ROUNDS):
        exact = elements.exact(_least_squares(rows, codes, spread, groups))
        if exact is None:
            break
        trial, tried = exact[..., groups], codes.copy()
        for _ in range(SWEEPS):
            put_right(tried, rows / trial, trial, spread, elements.nearest)
        less = energies(spread, tried * trial - rows)
        better = less < lost
        codes, steps = (
            np.where(better[..., None], new, old) for new, old in ((tried, codes), (trial, steps))
        )
        lost = np.minimum(less, lost)
    return codes, steps


def energies(spread: Array, errors: Array) -> Array:
    """Of what errors ``[groups, outputs, K]`` make of the results, ``[groups, outputs]``."""
    return np.asarray(np.einsum("gok,gok->go", errors @ spread, errors))


def _least_squares(rows: Array, codes: Array, spread: Array, groups: Array) -> Array:
    """One number per block, ``[groups, outputs, blocks]``, by which codes come nearest to rows."""
    count = int(groups.max()) + 1
    parts = np.zeros((count, *codes.shape))
    for block in range(count):
        at = groups == block
        parts[block][..., at] = codes[..., at]
    seen = parts @ spread
    square = np.einsum("agok,bgok->goab", seen, parts)
    wanted = np.einsum("agok,gok->goa", seen, rows)
    own = np.einsum("goaa->goa", square)
    own += 1e-9 * own.mean(-1, keepdims=True) + np.finfo(np.float64).tiny * 1e16
    return np.linalg.solve(square, wanted[..., None])[..., 0]


def _across(rows: Array, spread: Array, elements: Elements) -> Array:
    """The same with one step for each column of some rows, of any groups of channels."""
    columns = rows.reshape(-1, rows.shape[2]).T
    steps, own = np.empty_like(columns), np.einsum("gkk->kg", spread)
    weight = np.repeat(own, rows.shape[1], axis=1)
    size = elements.format.size(columns.shape[1])
    for start in range(0, columns.shape[1], size):
        at = slice(start, start + size)
        loss = partial(_weighted, weight[:, at])
        steps[:, at] = _searched(columns[:, at], loss, elements)[:, None]
    return steps.T.reshape(rows.shape)


def _weighted(weights: Array, errors: Array) -> Array:
    return np.asarray((weights * np.square(errors)).sum(1))


def _searched(parts: Array, loss: Callable[[Array], Array], elements: Elements) -> Array:
    """The step of least ``loss`` of each row of ``parts [..., n]``."""
    reach = np.abs(parts).max(-1)
    best, lowest = np.ones(reach.shape), np.full(reach.shape, np.inf)
    for trial in elements.steps(reach):
        lost = loss(elements.nearest(parts / trial[..., None]) * trial[..., None] - parts)
        best, lowest = np.where(lost < lowest, trial, best), np.minimum(lost, lowest)
    return np.asarray(best)
