"""Arrays in ``.npz`` files, read a few rows at a time: memory does not grow with the samples."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from ..ir.errors import DataError
from ..ir.types import Array

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """One array of an ``.npz`` file: its header, and its rows on demand."""

    path: Path
    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def rows(self) -> int:
        """Length of axis 0."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def blocks(self, size: int) -> Iterator[Array]:
        """The array in blocks of ``size`` rows (the last one may be shorter), each its own copy."""
        if self.fortran and len(self.shape) > 1:
            yield from self._fortran_blocks(size)
            return
        with self._data() as stream:
            for start in range(0, self.rows, size):
                yield self._block(stream, min(size, self.rows - start))

    @contextmanager
    def _data(self) -> Iterator[IO[bytes]]:
        """The numbers, after the header."""
        with (
            _reading(self.path, self.name),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.name}.npy") as stream,
        ):
            stream.read(self.offset)
            yield stream

    def _block(self, stream: IO[bytes], rows: int) -> Array:
        raw = bytearray(stream.read(rows * self.row_bytes))
        if len(raw) != rows * self.row_bytes:
            raise EOFError("the data ends early")
        return np.frombuffer(raw, self.dtype).reshape(rows, *self.shape[1:])

    def _fortran_blocks(self, size: int) -> Iterator[Array]:
        """Column-major arrays hold a sample scattered: map a copy on disk instead of reading it."""
        with tempfile.TemporaryFile() as spool:
            with self._data() as stream:
                shutil.copyfileobj(stream, spool)
            spool.flush()
            if spool.tell() != self.rows * self.row_bytes:
                raise DataError(f"{self.path}: array {self.name!r} is damaged: the data ends early")
            if spool.tell() == 0:
                return
            view = np.memmap(spool, self.dtype, "r", shape=self.shape, order="F")
            for start in range(0, self.rows, size):
                yield np.array(view[start : start + size], order="C")


class NpzFile:
    """The arrays of one ``.npz`` file by name; opening it reads their headers only."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def members(self) -> dict[str, Member]:
        """All arrays; ``DataError`` for what is no ``.npz`` file or holds Python objects."""
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            found = (_header(archive, self.path, n.removesuffix(".npy")) for n in names)
            return {m.name: m for m in found}


@contextmanager
def _reading(path: Path, name: str = "") -> Iterator[None]:
    where = f"{path}: array {name!r}" if name else str(path)
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"data file {str(path)!r} does not exist") from error
    except zipfile.BadZipFile as error:
        what = "is damaged" if name else "is not an .npz file or is truncated"
        raise DataError(f"{where} {what} ({error})") from error
    except _BROKEN as error:
        raise DataError(f"{where} is damaged or unreadable: {error}") from error


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> Member:
    with _reading(path, name), archive.open(f"{name}.npy") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(stream)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: array {name!r} has no readable header: {error}") from error
        offset = stream.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path}: array {name!r} holds Python objects (pickles), which are never read; "
            "save plain numbers"
        )
    if not shape:
        raise DataError(f"{path}: array {name!r} is a single number; samples go on axis 0")
    return Member(path, name, dtype, tuple(int(d) for d in shape), bool(fortran), offset)
