"""Writing a file whole or not at all: beside its place first, then one rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .ir.errors import QcError


class OutputError(QcError):
    """A result cannot be written where it was asked for."""


@contextmanager
def replacing_file(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; takes the place of ``path`` at the end, or vanishes."""
    path = Path(os.path.abspath(path))
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise OutputError(f"cannot write {str(path)!r}: it is a folder")
        yield draft
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
