"""Shared libraries and the names that they are loaded by."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def fresh_name(library: Path) -> Iterator[str]:
    """A path to ``library`` that this process has loaded nothing by; it ends with the context.

    The loader of Linux takes a name that it knows for the library that it knows, without a look at
    the file: an artifact that was compiled again would still run as it was before.
    """
    with tempfile.TemporaryDirectory(prefix="qc-load-") as folder:
        link = Path(folder) / library.name
        link.symlink_to(library.resolve())
        yield str(link)
