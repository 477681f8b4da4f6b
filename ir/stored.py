"""How constants are stored: integers without the bits that none of them uses."""

from __future__ import annotations

from math import prod

import numpy as np

from .formats.base import signed
from .formats.bits import pack, unpack
from .types import Array

WIDTHS = ("int8", "int16")
"""Elements that are packed; all others take what they have."""


def code_bits(codes: Array) -> int:
    """Bits that hold every one of symmetric integer codes; at least 2."""
    reach = max(abs(int(codes.max(initial=1))), abs(int(codes.min(initial=0))))
    return reach.bit_length() + 1


def stored_bits(data: Array) -> int:
    """Bits of an element where ``data`` is stored: fewer than it has in memory if that suffices.

    At most 8 where it is packed.
    """
    own = 8 * data.dtype.itemsize
    if data.dtype.name not in WIDTHS:
        return own
    needed = code_bits(data)
    return needed if needed <= 8 else own


def is_packed(data: Array) -> bool:
    """Whether ``data`` is stored in fewer bits than it has in memory."""
    return stored_bits(data) < 8 * data.dtype.itemsize


def stored_bytes(data: Array) -> int:
    """Bytes that ``data`` takes in a file."""
    return -(-data.size * stored_bits(data) // 8)


def packed(data: Array) -> Array:
    """uint8 ``[stored_bytes(data)]``: two's complement, the first integer in the lowest bits."""
    bits = stored_bits(data)
    return pack(data.reshape(-1).astype(np.uint8) & np.uint8((1 << bits) - 1), bits)


def unpacked(data: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """What :func:`packed` made of 8 integers or more; ``ValueError`` if the size is wrong."""
    count = prod(shape)
    bits = 8 * data.size // max(count, 1)
    if count < 8 or not 2 <= bits <= 8 or data.size != -(-count * bits // 8):
        raise ValueError(f"{count} packed integers are not {data.size} bytes")
    return signed(unpack(data, bits, count), bits).astype(dtype).reshape(shape)
