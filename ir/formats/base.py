"""Number formats of blocks: elements of a few bits and what the elements of a block share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..types import Array
from .bits import pack, unpack


@dataclass(frozen=True, eq=False)
class Encoded:
    """Numbers in a format: the encoded axis is the last, cut into blocks.

    ``scales``: uint16 ``[..., blocks]``, what a block shares; ``codes``: uint8 ``[..., blocks,
    size]``; of the last block only so many count that there are ``length`` in all.
    """

    scales: Array
    codes: Array
    length: int


@dataclass(frozen=True)
class Format(ABC):
    """A number format; ``block`` elements along an axis share a scale (0: the whole axis).

    A format says how it codes scales and elements; blocks, bits and bytes are the same for all.
    A block that holds NaN or an infinity is NaN as a whole.
    """

    block: int = 0

    # -- what a format says ------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """How recipes call the format; :func:`~qc.ir.formats.parse` reads it."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """Bits of an element, at most 8."""

    @property
    @abstractmethod
    def scale_bits(self) -> int:
        """Bits of what a block shares, at most 16."""

    @abstractmethod
    def scales(self, x: Array) -> Array:
        """uint16 ``[..., blocks]`` for finite float32 ``[..., blocks, size]``."""

    @property
    @abstractmethod
    def undefined(self) -> int:
        """The scale of a block that is not a number."""

    @abstractmethod
    def codes(self, x: Array, scales: Array) -> Array:
        """uint8 codes of finite float32 ``[..., blocks, size]`` under ``[..., blocks, 1]``."""

    @abstractmethod
    def values(self, codes: Array, scales: Array) -> Array:
        """float32 numbers that codes stand for; NaN where the scale says so."""

    # -- blocks ------------------------------------------------------------------------------

    def size(self, length: int) -> int:
        """Elements of a block of an axis of ``length``."""
        return self.block or max(length, 1)

    def blocks(self, length: int) -> int:
        """Blocks of an axis; the last one is filled up with zeros."""
        return -(-length // self.size(length))

    def padding(self, length: int) -> int:
        """Zeros that fill the last block."""
        return self.blocks(length) * self.size(length) - length

    def bytes(self, length: int) -> int:
        """Bytes of an axis of ``length`` when packed: whole bytes for every block."""
        return self.blocks(length) * self._block_bytes(self.size(length))

    def _block_bytes(self, size: int) -> int:
        return -(-self.scale_bits // 8) + -(-size * self.bits // 8)

    # -- encode, decode ----------------------------------------------------------------------

    def encode(self, x: Array, axis: int = -1) -> Encoded:
        """The nearest numbers of the format, in blocks along ``axis``; ``x`` is real."""
        x = np.moveaxis(np.asarray(x, np.float32), axis, -1)
        length = x.shape[-1]
        pad = [(0, 0)] * (x.ndim - 1) + [(0, self.padding(length))]
        x = np.pad(x, pad).reshape(*x.shape[:-1], self.blocks(length), self.size(length))
        known = np.asarray(np.isfinite(x).all(-1))
        x = np.where(known[..., None], x, np.float32(0))
        scales = self.scales(x)
        codes = self.codes(x, scales[..., None])
        return Encoded(np.where(known, scales, self.undefined).astype(np.uint16), codes, length)

    def decode(self, encoded: Encoded, axis: int = -1) -> Array:
        """float32 numbers with the encoded axis at ``axis``."""
        x = self.values(encoded.codes, encoded.scales[..., None])
        x = x.reshape(*x.shape[:-2], -1)[..., : encoded.length]
        return np.moveaxis(x, -1, axis)

    def round(self, x: Array, axis: int = -1) -> Array:
        """float32: what is left of ``x`` once it was encoded."""
        return self.decode(self.encode(x, axis), axis)

    # -- bytes -------------------------------------------------------------------------------

    def pack(self, encoded: Encoded) -> Array:
        """uint8 ``[..., bytes(length)]``: of every block its scale, then its codes."""
        scale = encoded.scales[..., None].astype("<u2").view(np.uint8)
        head = scale[..., : -(-self.scale_bits // 8)]
        whole = np.concatenate([head, pack(encoded.codes, self.bits)], -1)
        return whole.reshape(*whole.shape[:-2], -1)

    def unpack(self, data: Array, length: int) -> Encoded:
        """What :meth:`pack` made of an axis of ``length``; ``ValueError`` if the size is wrong."""
        if data.shape[-1] != self.bytes(length):
            raise ValueError(
                f"{length} elements of {self.name} are {self.bytes(length)} bytes, "
                f"not {data.shape[-1]}"
            )
        size = self.size(length)
        blocks = data.reshape(*data.shape[:-1], self.blocks(length), self._block_bytes(size))
        head = -(-self.scale_bits // 8)
        scale = np.zeros((*blocks.shape[:-1], 2), np.uint8)
        scale[..., :head] = blocks[..., :head]
        codes = unpack(blocks[..., head:], self.bits, size)
        return Encoded(scale.view("<u2")[..., 0].astype(np.uint16), codes, length)


def exponents(x: Array) -> Array:
    """int32 ``floor(log2(max(abs(x))))`` over the last axis; far below all exponents for zeros."""
    greatest = np.abs(x).max(-1, initial=0.0)
    return np.where(greatest > 0, np.frexp(greatest)[1] - 1, -1000).astype(np.int32)


def signed(codes: Array, bits: int) -> Array:
    """int32 of codes in two's complement."""
    wide = codes.astype(np.int32)
    return np.where(wide >= 1 << (bits - 1), wide - (1 << bits), wide)


def unsigned(numbers: Array, bits: int) -> Array:
    """uint8 codes in two's complement of whole numbers."""
    return np.asarray(numbers.astype(np.int32) & ((1 << bits) - 1)).astype(np.uint8)
