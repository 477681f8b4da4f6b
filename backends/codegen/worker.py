"""Compiles kernels in a child process, which may hang or abort without harm to the parent.

Run as a program: length-prefixed pickles of ``(kernel, name, target)`` come on standard input,
``(object, extent)`` or an error's text go to standard output.
"""

import os
import pickle
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

Job = tuple[Any, str, dict[str, object]]
"""A kernel, its symbol, and TVM's description of the target."""


def compile_one(kernel: Any, name: str, target: dict[str, object]) -> tuple[bytes, int]:
    """The object file of a kernel, and its number of iterations."""
    from .kernels.compile import compile_kernel

    emitted = kernel.emit(name)
    if emitted.packed:
        return _compile_packed(emitted.function, name, target), 0
    return compile_kernel(emitted.function, name, target), emitted.extent


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
    """Answer jobs until the input ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            job: Job = receive(source)
        except EOFError:
            return
        try:
            send(sink, compile_one(*job))
        except Exception as error:
            send(sink, f"{type(error).__name__}: {str(error).strip().splitlines()[0:1]}")
