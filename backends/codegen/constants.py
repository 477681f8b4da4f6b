"""The constants of a library: as kernels read them, or packed and unpacked when it is loaded.

Integers that need fewer bits than their elements have (``ir.stored``) are stored without the rest.
``unpack.c`` writes them into zeroed memory of the library, the *room*, before any function of it
can be called; nothing is unpacked while the network runs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...ir.stored import is_packed, packed, stored_bits
from ...ir.types import Array
from .buffer import Buffer, Storage
from .memory import ALIGNMENT, SLACK

DATA, PACKED = "constants.bin", "packed.bin"


@dataclass(frozen=True)
class Packed:
    """``count`` integers of ``bits`` bits, which are ``itemsize`` bytes each in the room."""

    bits: int
    itemsize: int
    count: int
    offset: int
    codes: bytes


@dataclass
class Constants:
    """Constants by their bytes; without ``keep`` these are left out.

    ``data``: those that are stored as they are; ``packed``: the others, which take ``room`` bytes
    unpacked.
    """

    keep: bool = True
    data: bytearray = field(default_factory=bytearray)
    packed: list[Packed] = field(default_factory=list)
    room: int = 0
    _known: dict[bytes, Buffer] = field(default_factory=dict)

    def add(self, name: str, array: Array) -> Buffer:
        """A contiguous array; equal bytes are stored once."""
        if not self.keep:
            return Buffer(name, array.nbytes, Storage.CONSTANT)
        content = array.tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._known:
            packs = is_packed(array)
            self._known[key] = self._pack(name, array) if packs else self._append(name, content)
        return self._known[key]

    @property
    def stored(self) -> int:
        """Bytes that all constants take in the library."""
        return len(self.data) + sum(len(p.codes) for p in self.packed)

    def write(self, folder: Path) -> None:
        """Write the files that the C source includes."""
        (folder / DATA).write_bytes(self.data)
        # The code that unpacks reads eight bytes at a time.
        (folder / PACKED).write_bytes(b"".join(p.codes for p in self.packed) + bytes(8))

    def source(self) -> str:
        """C: ``qc_packed`` says what to unpack, ``qc_unpack(room)`` does it."""
        rows = "".join(
            f"  {{{p.bits}, {p.itemsize}, {p.count}, {p.offset}}},\n" for p in self.packed
        )
        return f"""
enum {{ qc_room_bytes = {self.room} }};
static const struct {{ int bits, itemsize; long long count, offset; }} qc_packed[] = {{
{rows}  {{0, 0, 0, 0}}}};
{(Path(__file__).parent / "unpack.c").read_text()}"""

    def _append(self, name: str, content: bytes) -> Buffer:
        buffer = Buffer(name, len(content), Storage.CONSTANT, len(self.data))
        self.data += content
        self.data += bytes(_padding(len(content)))
        return buffer

    def _pack(self, name: str, array: Array) -> Buffer:
        flat = np.append(array, np.zeros(-array.size % 8, array.dtype))
        buffer = Buffer(name, array.nbytes, Storage.UNPACKED, self.room)
        self.packed.append(
            Packed(stored_bits(array), array.itemsize, flat.size, self.room, packed(flat).tobytes())
        )
        self.room += array.nbytes + _padding(array.nbytes)
        return buffer


def _padding(size: int) -> int:
    """Bytes behind a constant: kernels may read so far, and the next one is aligned."""
    return SLACK + -(size + SLACK) % ALIGNMENT
