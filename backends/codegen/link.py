"""Linking object files and constants into one shared library.

The system's C compiler if there is one, else ``python -m ziglang cc`` (extra ``arm``).
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ...ir.errors import BackendError

SECONDS = 300

_CONSTANTS = """
__asm__(".section .rodata,\\"a\\"\\n.balign 64\\n.hidden qc_data\\n.globl qc_data\\n"
        "qc_data:\\n.incbin \\"constants.bin\\"\\n.balign 64\\n.skip 64\\n.previous\\n");
extern const unsigned char qc_data[] __attribute__((visibility("hidden")));
const void *qc_constants(void) { return qc_data; }
"""


def compiler(command: Sequence[str] = ()) -> list[str]:
    """The C compiler's command: the target's own, the system's, or zig's."""
    if command:
        return list(command)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise BackendError(
        "no C compiler to link with: install one (gcc, clang) or `pip install qc-compiler[arm]`"
    )


def link(
    objects: dict[str, bytes], constants: bytes, folder: Path, command: Sequence[str] = ()
) -> bytes:
    """The shared library of all objects and the constants; ``folder`` is for scratch files."""
    for name, data in objects.items():
        (folder / f"{name}.o").write_bytes(data)
    (folder / "constants.bin").write_bytes(constants)
    (folder / "constants.c").write_text(_CONSTANTS)
    names = [f"{name}.o" for name in objects]
    # Lazy: on one thread TVM's runtime is not loaded, and its symbols must not be asked for.
    flags = ["-shared", "-fPIC", "-O1", "-Wl,--build-id=none", "-Wl,-z,lazy", "-s"]
    _run([*compiler(command), *flags, "-o", "lib.so", *names, "constants.c", "-lm"], folder)
    return (folder / "lib.so").read_bytes()


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"linking took more than {SECONDS} s: {command[0]}") from error
    except OSError as error:
        raise BackendError(f"cannot run the linker {command[0]}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise BackendError(f"linking failed ({command[0]}): {lines[-1]}")
