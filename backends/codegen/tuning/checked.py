"""Kernels that a search wrote are run before they are trusted: compiled, called, compared."""

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....ir.errors import BackendError
from ..link import run_compiler
from ..template import TemplateKernel
from ..worker import Compile, Compiled
from .expected import expected


@dataclass(frozen=True)
class Checked(Compile):
    """Compile a kernel of integers for this machine, and run it against the integer reference.

    ``link``: the C compiler's command.  To be done in a process that may die.  Raises
    ``BackendError`` where a value differs or something else was written.
    """

    link: tuple[str, ...] = ()

    def __call__(self) -> Compiled:
        """The object file and the extent, as of ``Compile``."""
        compiled = super().__call__()
        assert isinstance(self.kernel, TemplateKernel)
        wanted = expected(self.kernel.workload)
        arrays = [np.array(a) for a in wanted.arranged(self.kernel)]
        y = wanted.untouched
        with tempfile.TemporaryDirectory(prefix="qc-check-") as folder:
            function = getattr(self._linked(compiled[0], Path(folder)), self.name)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, y)]
        half = compiled[1] // 2
        for lo, hi in ((half, compiled[1]), (0, half)):
            function(*pointers, ctypes.c_int32(lo), ctypes.c_int32(hi))
        if differing := int(np.count_nonzero(y != wanted.y)):
            raise BackendError(
                f"differs from the integer reference in {differing} of {y.size} values"
            )
        return compiled

    def _linked(self, code: bytes, folder: Path) -> Any:
        (folder / "kernel.o").write_bytes(code)
        run_compiler([*self.link, "-shared", "-o", "kernel.so", "kernel.o", "-lm"], folder)
        return ctypes.CDLL(str(folder / "kernel.so"))
