"""Running a network on the CUDA device of this machine."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....ir.errors import BackendError, TargetError
from ....ir.types import Array
from ..library import fresh_name


class Device:
    """A network on the device; called with arrays for all ports and the workspace."""

    def __init__(self, library: Path, ports: int) -> None:
        try:
            with fresh_name(library) as name:
                loaded = ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            self._run, self._open, self._time = loaded.qc_run, loaded.qc_open, loaded.qc_time
            self._error = loaded.qc_error
        except (OSError, AttributeError) as error:
            raise BackendError(f"{str(library)!r} cannot be loaded: {error}") from error
        self._run.argtypes = [ctypes.c_void_p] * (ports + 1)
        self._time.restype, self._error.restype = ctypes.c_double, ctypes.c_char_p

    def open(self) -> None:
        """Upload code and constants; ``TargetError`` says what the device or its driver lacks."""
        if self._open():
            raise TargetError(f"no network on this machine's CUDA device: {self._why()}")

    def __call__(self, arrays: Sequence[Array]) -> None:
        """Run once: copies the inputs there, and the outputs back."""
        addresses: list[Any] = [a.__array_interface__["data"][0] for a in arrays]
        if self._run(*addresses):
            raise BackendError(f"CUDA: {self._why()}")

    def seconds(self, repeats: int) -> float:
        """Time of one run on what lies on the device, without copies, over ``repeats`` runs."""
        spent = float(self._time(repeats))
        if spent < 0:
            raise BackendError(f"CUDA: {self._why()}")
        return spent / repeats / 1e9

    def _why(self) -> str:
        return str(self._error().decode(errors="replace")).strip().replace("\n", "; ")
