"""A piece of memory that kernels are given addresses in."""

from dataclasses import dataclass
from enum import Enum


class Storage(Enum):
    """Where a buffer lives."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    UNPACKED = "unpacked"


FIXED = (Storage.CONSTANT, Storage.UNPACKED)
"""Memory that no kernel writes to."""


@dataclass(eq=False)
class Buffer:
    """A piece of memory.

    ``offset``: bytes into the arena, the constants or the room; for inputs and outputs their index.
    """

    name: str
    size: int
    storage: Storage = Storage.ARENA
    offset: int = 0
