"""Codes of a few bits, packed into bytes: the first code in the lowest bits."""

from __future__ import annotations

import numpy as np

from ..types import Array


def pack(codes: Array, bits: int) -> Array:
    """uint8 ``[..., n]`` below ``2**bits`` to uint8 ``[..., ceil(n * bits / 8)]``, zeros behind."""
    planes = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(planes.reshape(*codes.shape[:-1], -1), -1, bitorder="little")


def unpack(data: Array, bits: int, count: int) -> Array:
    """What :func:`pack` made of ``count`` codes; uint8 ``[..., count]``."""
    planes = np.unpackbits(data, -1, count * bits, bitorder="little")
    weights = np.uint8(1) << np.arange(bits, dtype=np.uint8)
    split = planes.reshape(*data.shape[:-1], count, bits)
    return np.asarray((split * weights).sum(-1, dtype=np.uint8))
