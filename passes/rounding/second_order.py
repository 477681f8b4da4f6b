"""Which integers stand for weights: those whose errors cancel, or those the inputs notice least."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from ...ir.types import Array

Levels = Callable[[Array], Array]
"""What is nearest to numbers, of all that they may become."""

DAMPING = 0.01
"""Share of the mean variance added to every input's own (GPTQ, section 3.3)."""

BLOCK = 128
"""Columns whose errors are fed back together."""

ROWS = 512
"""Rows that go through the columns together: they fit a cache, and every block has its thread."""

ORDERS = ("natural", "activation", "sensitivity")
"""Which columns are rounded first: as they come, those of the largest variance, or those whose
rounding would cost most if no other column made up for it (see ``_orders``)."""

BEST = "best"
"""All of ``ORDERS``; each row takes the codes that lose least."""


def balanced(rows: Array, taps: int) -> Array:
    """Integers near ``rows`` whose errors sum to less than one half over each filter and each row.

    Inputs of one sign (images, what a ReLU lets through) turn a sum of rounding errors into an
    offset of the whole channel, which hurts more than the errors themselves.  ``taps``: weights
    of one filter, which lie together in a row.  Guo et al., "SQuant: On-the-Fly Data-Free
    Quantization via Diagonal Hessian Approximation", 2022, section 3, in two of its three stages.
    """
    codes = np.rint(rows)
    for width in dict.fromkeys(w for w in (taps, rows.shape[1]) if w > 1):
        real, whole = rows.reshape(-1, width), codes.reshape(-1, width)
        error = whole - real
        total = error.sum(1, keepdims=True)
        order = np.argsort(-error * np.sign(total), axis=1, kind="stable")
        flips = np.arange(width) < np.rint(np.abs(total))
        change = np.zeros_like(whole)
        np.put_along_axis(change, order, np.where(flips, np.sign(total), 0.0), 1)
        codes = (whole - change).reshape(rows.shape)
    return codes


def second_order(
    rows: Array, scale: Array, covariance: Array, samples: int, top: int | Levels,
    order: str = "activation", sweeps: int = 0,
) -> Array:  # fmt: skip
    """Integers that lose little of the layer's *result*: each error is fed back to later columns.

    ``rows`` float64 ``[groups, outputs, K]``, ``scale`` ``[groups, outputs]`` (or with ``K``: steps
    of columns that differ), ``covariance`` of the K inputs ``[groups, K, K]``, estimated from
    ``samples`` observations; that of few samples is drawn towards its diagonal.  The integers go
    from ``-top`` to ``top``, or ``top`` says what is nearest to numbers in steps, integer or not.
    ``order``: one of ``ORDERS`` or ``BEST``.

    ``sweeps``: how often each code is then put right while all others stay.

    Frantar et al., "GPTQ", 2022, section 3; the order by sensitivity, one for all rows:
    "Sensitivity-Aware Post-Training Quantization for Deep Neural Networks", 2025 (arXiv
    2509.05576); sweeps: Behdin et al., "QuantEase", 2023, section 3.
    """
    spread = trusted(covariance, samples)
    inverse = np.linalg.inv(spread)
    steps = scale if scale.ndim == rows.ndim else scale[..., None]
    whole = rows / steps
    best = np.empty_like(whole)
    lowest = np.full(rows.shape[:2], np.inf)
    levels = top if callable(top) else partial(nearest, codes=range(-top, top + 1))
    for columns in _orders(whole, steps, inverse, spread, levels, order):
        found = _fed_back(whole, steps, inverse, columns, levels)
        error = (found - whole) * steps
        lost = np.einsum("gok,gok->go", error @ spread, error) if order == BEST else 0.0
        better = lost < lowest
        best[better], lowest = found[better], np.minimum(lost, lowest)
    for _ in range(sweeps):
        put_right(best, whole, steps, spread, levels)
    return best


def trusted(covariance: Array, samples: int) -> Array:
    """The covariance as far as its samples go, damped, over its greatest variance."""
    width = covariance.shape[-1]
    own = np.diagonal(covariance, axis1=1, axis2=2)
    trust = samples / (samples + width)
    floor = DAMPING * own.mean(1, keepdims=True) + np.finfo(np.float64).tiny * 1e16
    full = trust * covariance
    full[:, np.arange(width), np.arange(width)] = own + floor
    return np.asarray(full / (own + floor).max(1)[:, None, None])


def _orders(
    whole: Array, steps: Array, inverse: Array, spread: Array, levels: Levels, order: str
) -> Iterator[Array]:
    """Columns ``[groups, K]`` in their order, for every order that is asked for."""
    for name in ORDERS if order == BEST else (order,):
        if name == "natural":
            key = np.zeros(spread.shape[:2])
        elif name == "activation":
            key = np.diagonal(spread, axis1=1, axis2=2)
        else:
            error = (levels(whole) - whole) * steps
            key = np.square(error).sum(1) / np.diagonal(inverse, axis1=1, axis2=2)
        yield np.argsort(-key, axis=1, kind="stable")


def nearest(whole: Array, codes: range) -> Array:
    """The nearest of ``codes``, halves to even."""
    return np.clip(np.rint(whole), codes[0], codes[-1])


def _fed_back(whole: Array, steps: Array, inverse: Array, columns: Array, levels: Levels) -> Array:
    """Codes of ``whole [groups, outputs, K]``, whose columns are rounded in the order given.

    Rows know nothing of each other: any blocks of them, one after another or side by side, get the
    same codes.
    """
    inverse = np.take_along_axis(inverse, columns[:, :, None], 1)
    inverse = np.take_along_axis(inverse, columns[:, None, :], 2)
    factor = np.linalg.cholesky(inverse).swapaxes(1, 2)
    rest = np.take_along_axis(whole, columns[:, None, :], 2)
    if steps.shape[2] > 1:
        steps = np.take_along_axis(steps, columns[:, None, :], 2)
    else:
        steps = np.ones((1, 1, 1))  # of no account: errors and what takes them have the same unit
    parts = [slice(i, i + ROWS) for i in range(0, rest.shape[1], ROWS)]

    def work(part: slice) -> None:
        own = steps if len(steps[0]) == 1 else steps[:, part]
        _round_columns(rest[:, part], np.broadcast_to(own, rest[:, part].shape), factor, levels)

    if len(parts) == 1:
        work(parts[0])
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, parts))
    out = np.empty_like(rest)
    np.put_along_axis(out, np.broadcast_to(columns[:, None, :], out.shape), rest, 2)
    return out


def _round_columns(rest: Array, steps: Array, factor: Array, levels: Levels) -> None:
    """Replace ``rest [groups, rows, K]`` by codes, the errors of which go to the columns after."""
    width = rest.shape[2]
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        errors = np.empty((*rest.shape[:2], stop - start))
        for i in range(start, stop):
            found = levels(rest[..., i])
            error = (rest[..., i] - found) * steps[..., i] / factor[:, None, i, i]
            here = slice(i + 1, stop)
            rest[..., here] -= error[..., None] * factor[:, None, i, here] / steps[..., here]
            rest[..., i], errors[..., i - start] = found, error
        rest[..., stop:] -= errors @ factor[:, start:stop, stop:] / steps[..., stop:]


def put_right(found: Array, whole: Array, steps: Array, spread: Array, levels: Levels) -> None:
    """Every column of ``found`` once more, by the errors that all others make."""
    steps = np.broadcast_to(steps, whole.shape)
    pull = ((whole - found) * steps) @ spread
    for i in range(whole.shape[2]):
        own, before = spread[:, None, i, i], found[..., i].copy()
        found[..., i] = levels(before + pull[..., i] / own / steps[..., i])
        moved = (found[..., i] - before) * steps[..., i]
        pull -= moved[..., None] * spread[:, None, i, :]
