"""NVIDIA's compiler, where there is one: it checks the generated source and makes its code."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ....ir.errors import BackendError

SECONDS = 900
FLAGS = ("-cubin", "-std=c++17", "--fmad=false", "-O3")
"""As driver.c has NVRTC compile: no multiplication may be joined with an addition."""


@dataclass(frozen=True)
class Checked:
    """Code for the device (empty: none), and what the report says of it."""

    image: bytes
    text: str


def nvcc() -> str | None:
    """The compiler's command, if it is installed."""
    return shutil.which("nvcc")


def check(source: str, arch: str, folder: Path) -> Checked:
    """Compile ``source`` for ``arch`` where nvcc is installed; ``folder`` is for scratch files.

    Raises ``BackendError`` with what nvcc says against it.
    """
    command = nvcc()
    if command is None:
        return Checked(b"", "no nvcc here: the device's NVRTC compiles it when it is loaded")
    (folder / "network.cu").write_text(source)
    words = [command, *FLAGS, f"-arch={arch}", "-o", "network.cubin", "network.cu"]
    try:
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"nvcc took more than {SECONDS} s for the kernels") from error
    except OSError as error:
        raise BackendError(f"cannot run {command}: {error.strerror}") from error
    if done.returncode:
        said = [x for x in done.stderr.splitlines() if "error" in x] or [f"exit {done.returncode}"]
        raise BackendError(f"nvcc refuses the kernels for {arch}: {said[0]}")
    return Checked((folder / "network.cubin").read_bytes(), f"compiled by nvcc {release(command)}")


@cache
def release(command: str) -> str:
    """The version, as nvcc tells it."""
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"V(\d+\.\d+\.\d+)", told.stdout)
    return found[1] if found else "of unknown version"
