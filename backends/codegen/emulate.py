"""Running an artifact for another machine: its standalone program in the target's emulator."""

import shutil
import struct
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import BackendError
from ...ir.types import Array

STANDALONE = "run"


def emulator(manifest: Mapping[str, Any]) -> list[str] | None:
    """The command that runs programs for the manifest's target, if it is installed here."""
    command = [str(word) for word in manifest["target"].get("emulator", ())]
    return command if command and shutil.which(command[0]) else None


class Emulated:
    """A process that runs the network; called with arrays for all ports and the workspace."""

    def __init__(self, command: Sequence[str], program: Path, inputs: int) -> None:
        self._command = [*command, str(program.resolve())]
        self._inputs = inputs
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, arrays: Sequence[Array]) -> None:
        """Run once: reads the inputs, fills the outputs."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(struct.pack("<i", 1))
                for array in arrays[: self._inputs]:
                    process.stdin.write(np.ascontiguousarray(array).tobytes())
                process.stdin.flush()
                for array in arrays[self._inputs : -1]:
                    flat = self._read(process, array.nbytes)
                    array[...] = np.frombuffer(flat, array.dtype).reshape(array.shape)
                self._read(process, 8)  # the nanoseconds that it took there
            except OSError as error:
                raise BackendError(self._died(process)) from error

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )  # fmt: skip
            except OSError as error:
                raise BackendError(f"cannot start {self._command[0]}: {error}") from error
            weakref.finalize(self, self._process.kill)
        return self._process

    def _read(self, process: "subprocess.Popen[bytes]", size: int) -> bytes:
        assert process.stdout is not None
        data = process.stdout.read(size)
        if len(data) < size:
            raise BackendError(self._died(process))
        return data

    def _died(self, process: "subprocess.Popen[bytes]") -> str:
        process.kill()
        _, errors = process.communicate()
        self._process = None
        lines = errors.decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"{' '.join(self._command)} ended with status {process.returncode}{said}"
