"""Arithmetic that every machine does alike: exact sums of integer products, fused multiply-add."""

from collections.abc import Sequence

import numpy as np

from ..types import Array
from .base import patches, window_output


def conv_accumulate(
    x: Array,
    w: Array,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    pad_value: float,
) -> Array:
    """Convolution of integers, exact: float64 products below 2**53.  ``-> int64 [N, O, *S']``."""
    n = w.ndim - 2
    edge = [(pads[i], pads[i + n]) for i in range(n)]
    xp = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *edge), constant_values=pad_value)
    sizes = [
        window_output(x.shape[i + 2], w.shape[i + 2], strides[i], edge[i], dilations[i])
        for i in range(n)
    ]
    view = patches(xp, w.shape[2:], strides, dilations, sizes)
    batch, outputs = x.shape[0], w.shape[0]
    per = outputs // group
    if group == x.shape[1] == outputs:
        taps = "xyz"[:n]
        acc = np.einsum(
            f"nc...{taps},c{taps}->nc...", view, w[:, 0].astype(np.float64), optimize=True
        )
        return np.asarray(acc).astype(np.int64)
    out = np.empty((batch, outputs, *sizes), np.int64)
    order = (0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))
    for g in range(group):
        part = view[:, g * w.shape[1] : (g + 1) * w.shape[1]].transpose(order)
        rows = part.reshape(batch * int(np.prod(sizes)), -1)
        acc = rows @ w[g * per : (g + 1) * per].reshape(per, -1).T.astype(np.float64)
        block = acc.reshape(batch, *sizes, per).astype(np.int64)
        out[:, g * per : (g + 1) * per] = np.moveaxis(block, -1, 1)
    return out


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` of float32 arrays with one rounding, as the machine's instruction does it.

    The product is exact in float64; the sum is rounded to odd there, so that the second rounding
    to float32 cannot go wrong (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums",
    2008, section 3).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    wide = np.asarray(c, np.float64)
    total = np.atleast_1d(product + wide)
    back = total - product
    error = (product - (total - back)) + (wide - back)
    bits = total.view(np.int64)
    even = (error != 0) & (bits & 1 == 0) & np.isfinite(error)
    away = (error > 0) == (total > 0)
    odd = np.where(even, np.where(away, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32).reshape(np.shape(product + wide))
