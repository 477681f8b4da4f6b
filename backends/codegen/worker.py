"""Does jobs in a child process, which may hang or abort without harm to the parent.

Run as a program: length-prefixed pickles of jobs come on standard input; what a job returns,
or an error's text go to standard output.
"""

import os
import pickle
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .program import Kernel

Compiled = tuple[bytes, int]
"""An object file and the kernel's number of independent iterations."""

Job = Callable[[], Any]
"""Something to do: picklable, as is what it returns; not a string, which means failure."""


@dataclass(frozen=True)
class Compile:
    """The object file of ``kernel`` as the symbol ``name`` for TVM's description of a target."""

    kernel: Kernel
    name: str
    target: dict[str, object]

    def __call__(self) -> Compiled:
        """Emit and compile."""
        from .kernels.compile import compile_kernel

        emitted = self.kernel.emit(self.name)
        if emitted.packed:
            return _compile_packed(emitted.function, self.name, self.target), 0
        return compile_kernel(emitted.function, self.name, self.target), emitted.extent


@dataclass(frozen=True)
class Prepare:
    """Take over an environment, for jobs that run programs or make scratch files."""

    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Replace the child's own."""
        os.environ.clear()
        os.environ.update(self.environment)
        tempfile.tempdir = None


def _compile_packed(function: Any, name: str, target: dict[str, object]) -> bytes:
    import tvm

    module = tvm.tirx.build(tvm.IRModule({name: function}), target=tvm.target.Target(target))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.o"
        module.write_to_file(str(path))
        return path.read_bytes()


def send(stream: BinaryIO, message: object) -> None:
    """Write one message."""
    data = pickle.dumps(message)
    stream.write(struct.pack("<Q", len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message; ``EOFError`` where the stream has ended."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack("<Q", head)[0]))


def serve() -> None:
    """Do jobs until the input ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            job: Job = receive(source)
        except EOFError:
            return
        try:
            send(sink, job())
        except Exception as error:
            lines = str(error).strip().splitlines()
            send(sink, f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
