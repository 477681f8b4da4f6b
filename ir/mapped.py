"""Arrays that are maps of files: what was read of them takes memory until it is given back."""

import mmap

import numpy as np

from .types import Array

_DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


def release(array: Array | None) -> None:
    """Give back the pages of a read-only map; the next access reads them from the file again.

    Nothing happens to arrays of any other kind, and where the system cannot do it.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and _DONTNEED is not None:
        base.madvise(_DONTNEED)
