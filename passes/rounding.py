"""Which integers stand for weights: those whose errors cancel, or those the inputs notice least."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..ir.types import Array

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
    rows: Array, scale: Array, covariance: Array, samples: int, top: int, order: str = "activation"
) -> Array:
    """Integers that lose little of the layer's *result*: each error is fed back to later columns.

    ``rows`` float64 ``[groups, outputs, K]``, ``scale`` ``[groups, outputs]``, ``covariance`` of
    the K inputs ``[groups, K, K]``, estimated from ``samples`` observations; that of few samples is
    drawn towards its diagonal.  ``order``: one of ``ORDERS`` or ``BEST``.  Frantar et al., "GPTQ",
    2022, section 3; the order by sensitivity, one for all rows: "Sensitivity-Aware Post-Training
    Quantization for Deep Neural Networks", 2025 (arXiv 2509.05576).
    """
    spread = _trusted(covariance, samples)
    inverse = np.linalg.inv(spread)
    whole = rows / scale[..., None]
    best = np.empty_like(whole)
    least = np.full(scale.shape, np.inf)
    for columns in _orders(whole, scale, inverse, spread, top, order):
        codes = _fed_back(whole, inverse, columns, top)
        error = codes - whole
        lost = np.einsum("gok,gok->go", error @ spread, error) if order == BEST else 0.0
        better = lost < least
        best[better], least = codes[better], np.minimum(lost, least)
    return best


def _trusted(covariance: Array, samples: int) -> Array:
    """The covariance as far as its samples go, damped, over its greatest variance."""
    width = covariance.shape[-1]
    own = np.diagonal(covariance, axis1=1, axis2=2)
    trust = samples / (samples + width)
    floor = DAMPING * own.mean(1, keepdims=True) + np.finfo(np.float64).tiny * 1e16
    full = trust * covariance
    full[:, np.arange(width), np.arange(width)] = own + floor
    return np.asarray(full / (own + floor).max(1)[:, None, None])


def _orders(
    whole: Array, scale: Array, inverse: Array, spread: Array, top: int, order: str
) -> Iterator[Array]:
    """Columns ``[groups, K]`` in their order, for every order that is asked for."""
    for name in ORDERS if order == BEST else (order,):
        if name == "natural":
            key = np.zeros(spread.shape[:2])
        elif name == "activation":
            key = np.diagonal(spread, axis1=1, axis2=2)
        else:
            error = (np.clip(np.rint(whole), -top, top) - whole) * scale[..., None]
            key = np.square(error).sum(1) / np.diagonal(inverse, axis1=1, axis2=2)
        yield np.argsort(-key, axis=1, kind="stable")


def _fed_back(whole: Array, inverse: Array, columns: Array, top: int) -> Array:
    """Codes of ``whole [groups, outputs, K]``, whose columns are rounded in the order given.

    Rows know nothing of each other: any blocks of them, one after another or side by side, get the
    same codes.
    """
    inverse = np.take_along_axis(inverse, columns[:, :, None], 1)
    inverse = np.take_along_axis(inverse, columns[:, None, :], 2)
    factor = np.linalg.cholesky(inverse).swapaxes(1, 2)
    rest = np.take_along_axis(whole, columns[:, None, :], 2)
    parts = [rest[:, i : i + ROWS] for i in range(0, rest.shape[1], ROWS)]
    if len(parts) == 1:
        _round_columns(rest, factor, top)
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda part: _round_columns(part, factor, top), parts))
    out = np.empty_like(rest)
    np.put_along_axis(out, np.broadcast_to(columns[:, None, :], out.shape), rest, 2)
    return out


def _round_columns(rest: Array, factor: Array, top: int) -> None:
    """Replace ``rest [groups, rows, K]`` by codes, the errors of which go to the columns after."""
    width = rest.shape[2]
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        errors = np.empty((*rest.shape[:2], stop - start))
        for i in range(start, stop):
            codes = np.clip(np.rint(rest[..., i]), -top, top)
            error = (rest[..., i] - codes) / factor[:, None, i, i]
            rest[..., i + 1 : stop] -= error[..., None] * factor[:, None, i, i + 1 : stop]
            rest[..., i], errors[..., i - start] = codes, error
        rest[..., stop:] -= errors @ factor[:, start:stop, stop:]
