"""Exact sums of integer products: the accumulators of integer convolutions."""

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
