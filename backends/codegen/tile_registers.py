"""The tile registers of AMX: asked of Linux, or emulated by trap on a cpu without them.

``tile_registers.c`` is compiled where code for AMX is linked, and lies beside it.  A process that
runs such code loads it and lets it handle SIGILL, if all that its cpu lacks are tiles; on a cpu
that has them nothing is loaded, and in a process that runs no such code neither.
"""

import ctypes
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...ir.errors import BackendError, TargetError
from ...targets.cpus import TILES
from ...targets.host import features
from .link import compiler, run_compiler

FILE = "tiles.so"
NAME = "an emulator of AMX"
KINDS = ("ldtilecfg", "tilezero", "tileload", "tilestore", "tdp")
"""Instructions that are counted: those of a kind by one name."""

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_SOURCE = Path(__file__).with_suffix(".c")


def emulator(needed: Iterable[str]) -> str | None:
    """The emulator's name where it runs code that needs such features: all but tiles are here."""
    lacking = frozenset(needed) - features()
    return NAME if lacking and lacking <= TILES else None


def compile_emulator(folder: Path, command: Sequence[str] = ()) -> bytes:
    """The emulator as a shared library; ``folder`` is for scratch files."""
    (folder / _SOURCE.name).write_text(_SOURCE.read_text())
    flags = ["-shared", "-fPIC", "-O3", "-mavx2", "-fwrapv", "-Wl,--build-id=none", "-s"]
    run_compiler([*compiler(command), *flags, "-o", FILE, _SOURCE.name], folder)
    return (folder / FILE).read_bytes()


def permit() -> None:
    """Ask Linux for the tile registers, once for the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA):
        raise TargetError("this kernel does not grant the AMX tile registers (arch_prctl)")


def emulate(library: Path) -> None:
    """Let this process emulate tiles by ``library``, unless it does so already.

    There is one emulator in a process: the tiles of a thread are its own.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_install(library))


def counts() -> dict[str, tuple[int, int]]:
    """Instructions that this process has emulated, and the rows that they had, by kind."""
    if not _loaded:
        return dict.fromkeys(KINDS, (0, 0))
    flat = _loaded[0].qc_tile_counts()[: 2 * len(KINDS)]
    return {kind: (flat[2 * i], flat[2 * i + 1]) for i, kind in enumerate(KINDS)}


_loaded: list[ctypes.CDLL] = []
_lock = threading.Lock()


def _install(library: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(library.resolve()), use_errno=True)
    except OSError as error:
        raise BackendError(f"{str(library)!r} cannot be loaded: {error}") from error
    loaded.qc_tile_counts.restype = ctypes.POINTER(ctypes.c_int64)
    if loaded.qc_emulate_tiles():
        raise BackendError(f"cannot handle SIGILL: {os.strerror(ctypes.get_errno())}")
    return loaded
