"""Linking object files and constants into one shared library.

The system's C compiler if there is one, else ``python -m ziglang cc`` (extra ``arm``).
"""

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ...ir.errors import BackendError
from ...targets.target import Target
from .constants import Constants

SECONDS = 300

_CONSTANTS = """
__asm__(".section .rodata,\\"a\\"\\n.balign 64\\n.hidden qc_data\\n.globl qc_data\\n"
        "qc_data:\\n.incbin \\"constants.bin\\"\\n.balign 64\\n.skip 64\\n"
        ".hidden qc_codes\\n.globl qc_codes\\nqc_codes:\\n.incbin \\"packed.bin\\"\\n.previous\\n");
extern const unsigned char qc_data[] __attribute__((visibility("hidden")));
static unsigned char qc_room[qc_room_bytes + 1] __attribute__((aligned(64)));
const void *qc_constants(void) { return qc_data; }
const void *qc_unpacked(void) { return qc_room; }
/* The loader calls this once, before anything else here can be called. */
__attribute__((constructor)) static void unpack(void) { qc_unpack(qc_room); }
/* A state that the caller does not keep in one place is copied before it is written to. */
int qc_keep(unsigned char *after, const unsigned char *before, long long size) {
  if (after != before)
    for (long long i = 0; i < size; i++) after[i] = before[i];
  return 0;
}
#if defined(__arm__)
/* LLVM asks for these names, the runtime of 32-bit ARM has others. */
float __floatundisf(unsigned long long value) { return (float)value; }
float __floatdisf(long long value) { return (float)value; }
#endif
#ifdef QC_TILES
#include <sys/syscall.h>
#include <unistd.h>
/* Linux gives a process the tile registers when it asks for them. */
__attribute__((constructor)) static void ask(void) { syscall(SYS_arch_prctl, 0x1023, 18); }
#endif
"""


def compiler(command: Sequence[str] = ()) -> list[str]:
    """The C compiler's command: the target's own, the system's, or zig's."""
    if command[:3] == ("python", "-m", "ziglang"):
        if find_spec("ziglang") is None:
            raise BackendError(
                "linking for this target needs ziglang: `pip install qc-compiler[arm]`"
            )
        return [sys.executable, *command[1:]]
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


def check_linkers(target: Target) -> None:
    """``BackendError`` where nothing here can link for ``target``."""
    if target.arch and not target.emulated:
        raise BackendError(
            f"code for {target.name!r} is compiled on x86-64, which its host code is for; this "
            f"machine is {platform.machine()}"
        )
    compiler(target.link)
    if target.standalone:
        compiler(target.standalone)


def tiles(features: frozenset[str]) -> list[str]:
    """The flag of C sources for code that needs the tile registers of AMX."""
    return ["-DQC_TILES"] if "amx-int8" in features else []


def link(
    objects: dict[str, bytes],
    constants: Constants,
    folder: Path,
    command: Sequence[str] = (),
    defines: Sequence[str] = (),
) -> bytes:
    """The shared library of all objects and the constants; ``folder`` is for scratch files."""
    names = _write(objects, constants, folder)
    # Lazy: on one thread TVM's runtime is not loaded, and its symbols must not be asked for.
    flags = ["-shared", "-fPIC", "-O1", "-Wl,--build-id=none", "-Wl,-z,lazy", "-s", *defines]
    run_compiler([*compiler(command), *flags, "-o", "lib.so", *names, "constants.c", "-lm"], folder)
    return (folder / "lib.so").read_bytes()


def link_program(
    objects: dict[str, bytes],
    constants: Constants,
    ports: str,
    folder: Path,
    command: Sequence[str],
) -> bytes:
    """A program without shared libraries around ``qc_run``; ``ports``: its generated C part."""
    names = _write(objects, constants, folder)
    source = (Path(__file__).parent / "standalone.c").read_text()
    (folder / "main.c").write_text(ports + source)
    run_compiler(
        [*compiler(command), "-O1", "-s", "-o", "run", "main.c", *names, "constants.c", "-lm"],
        folder,
    )
    return (folder / "run").read_bytes()


def declare_ports(inputs: int, sizes: Sequence[int]) -> str:
    """The C that a standalone program needs to know of its network.

    ``sizes``: bytes of the inputs, the outputs and, last, the workspace.
    """
    count = len(sizes)
    types = ", ".join(["void *"] * count)
    arguments = ", ".join(f"p[{i}]" for i in range(count))
    return f"""#include <stddef.h>
enum {{ qc_inputs = {inputs}, qc_ports = {count - 1} }};
static const size_t qc_sizes[] = {{{", ".join(map(str, sizes))}}};
extern int qc_run({types});
static void qc_call(void **p) {{ qc_run({arguments}); }}
"""


def _write(objects: dict[str, bytes], constants: Constants, folder: Path) -> list[str]:
    """The files to link; the names of the object files."""
    for name, data in objects.items():
        (folder / f"{name}.o").write_bytes(data)
    constants.write(folder)
    (folder / "constants.c").write_text(constants.source() + _CONSTANTS)
    return [f"{name}.o" for name in objects]


def run_compiler(command: list[str], folder: Path) -> None:
    """Run a C compiler in ``folder``; ``BackendError`` with its last words where it fails."""
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
        said = next((line for line in lines if "error" in line or "undefined" in line), lines[-1])
        raise BackendError(f"linking failed ({command[0]}): {said}")
