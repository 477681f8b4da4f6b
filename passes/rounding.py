"""Which integers stand for weights: those whose errors cancel, or those the inputs notice least."""

import numpy as np

from ..ir.types import Array

DAMPING = 0.01
"""Share of the mean variance added to every input's own (GPTQ, section 3.3)."""

BLOCK = 128
"""Columns whose errors are fed back together."""


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


def second_order(rows: Array, scale: Array, covariance: Array, samples: int, top: int) -> Array:
    """Integers that lose little of the layer's *result*: each error is fed back to later columns.

    ``rows`` float64 ``[groups, outputs, K]``, ``scale`` ``[groups, outputs]``, ``covariance`` of
    the K inputs ``[groups, K, K]``, estimated from ``samples`` observations.  Columns go from the
    largest variance to the smallest.  Frantar et al., "GPTQ", 2022, section 3; the covariance of
    few samples is drawn towards its diagonal.
    """
    groups, _, width = rows.shape
    factor, order = _inverse_factor(covariance, samples)
    rest = np.take_along_axis(rows, order[:, None, :], 2) / scale[..., None]
    codes = np.empty_like(rest)
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        errors = np.empty((groups, rows.shape[1], stop - start))
        for i in range(start, stop):
            codes[..., i] = np.clip(np.rint(rest[..., i]), -top, top)
            error = (rest[..., i] - codes[..., i]) / factor[:, None, i, i]
            rest[..., i:stop] -= error[..., None] * factor[:, None, i, i:stop]
            errors[..., i - start] = error
        rest[..., stop:] -= errors @ factor[:, start:stop, stop:]
    out = np.empty_like(codes)
    np.put_along_axis(out, np.broadcast_to(order[:, None, :], out.shape), codes, 2)
    return out


def _inverse_factor(covariance: Array, samples: int) -> tuple[Array, Array]:
    """Upper Cholesky factors of the inverses, columns in their order, and that order."""
    width = covariance.shape[-1]
    own = np.diagonal(covariance, axis1=1, axis2=2)
    order = np.argsort(-own, axis=1, kind="stable")
    trust = samples / (samples + width)
    floor = DAMPING * own.mean(1, keepdims=True) + np.finfo(np.float64).tiny * 1e16
    full = trust * covariance
    full[:, np.arange(width), np.arange(width)] = own + floor
    full = np.take_along_axis(full, order[:, :, None], 1)
    full = np.take_along_axis(full, order[:, None, :], 2)
    lower = np.linalg.cholesky(np.linalg.inv(full / full[:, :1, :1]))
    return lower.swapaxes(1, 2), order
