"""``qc doctor``: is everything here that compiling needs, and what to do if not."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import targets
from .targets import cuda_device

PINNED = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
NEEDED = (
    "jinja2", "numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "pillow", "rich",
    "safetensors", "scipy",
)  # fmt: skip
_CANARY = Path(__file__).with_name("canary.py")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it is well, what was found, what to do."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


_FAST = ("amx-int8", "avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod", "neon")
"""Features that kernels are made for, best first."""


def examine() -> list[Check]:
    """All checks, in the order in which they should be mended."""
    elsewhere = [_amx(), _arm(), _cuda()]
    return [_python(), *_packages(), *_pins(), _linker(), _cpu(), *elsewhere, _canary()]


def _python() -> Check:
    here = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), here, "install Python 3.11 or newer")


def installed(name: str) -> str | None:
    """The version of a distribution, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> list[Check]:
    out = []
    for name in NEEDED:
        found = installed(name)
        out.append(Check(name, found is not None, found or "missing", f"pip install {name}"))
    return out


def _pins() -> list[Check]:
    out = []
    for name, pin in PINNED.items():
        found = installed(name)
        remedy = f"pip install {name}=={pin} (other versions crash or fail to import)"
        out.append(Check(name, found == pin, f"{found or 'missing'}, needs {pin}", remedy))
    return out


def _linker() -> Check:
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return Check("linker", True, path)
    if importlib.util.find_spec("ziglang") is not None:
        return Check("linker", True, "ziglang")
    remedy = "install a C compiler (Debian: apt-get install gcc) or: pip install ziglang"
    return Check("linker", False, "no C compiler and no ziglang", remedy)


def _cpu() -> Check:
    host = targets.load("host")
    best = [f for f in _FAST if f in host.features]
    found = f"{host.cpu}: {', '.join(best) or 'neither AVX2 nor NEON'}"
    remedy = "this machine can compile for other targets, but its own code will be slow"
    return Check("cpu", host.available and bool(best), found, remedy)


def _amx() -> Check:
    """Code for AMX is optional, too."""
    target = targets.load("x86-amx")
    missing = targets.missing_features(target)
    found = "emulated here, for want of tile registers" if target.emulated else "runs here"
    if missing and not target.emulated:
        found = f"not run here: this machine lacks {', '.join(missing[:3])}"
    return Check("code for AMX", True, found)


def _arm() -> Check:
    """Code for ARM is optional: what is missing for it is no fault."""
    target = targets.load("arm")
    links = importlib.util.find_spec("ziglang") is not None
    found = (
        "ziglang links" if links else "not linked without ziglang (pip install ziglang)",
        f"{target.emulator[0]} {'runs' if target.emulated else 'is missing to run'} it here",
    )
    return Check("code for ARM", True, "; ".join(found))


def _cuda() -> Check:
    """Code for CUDA needs nothing here; a device runs it and nvcc checks it."""
    device, nvcc = cuda_device.compute_capability(), shutil.which("nvcc")
    found = (
        f"runs on sm_{device} here" if device else "emulated here, for want of a device",
        "nvcc checks it" if nvcc else "unchecked without nvcc",
    )
    return Check("code for CUDA", True, "; ".join(found))


def _canary() -> Check:
    """Tensorize in a child process: this is where wrong versions die."""
    remedy = f"pip install apache-tvm-ffi=={PINNED['apache-tvm-ffi']}; then run qc doctor again"
    try:
        done = subprocess.run(
            [sys.executable, str(_CANARY)], capture_output=True, text=True, timeout=180, check=False
        )
    except subprocess.TimeoutExpired:
        return Check("tensorize", False, "no answer within 180 s", remedy)
    if done.returncode == 0 and "chirp" in done.stdout:
        return Check("tensorize", True, "a tensorized loop compiles and runs")
    died = (
        f"the child died by signal {-done.returncode}"
        if done.returncode < 0
        else _last(done.stderr)
    )
    return Check("tensorize", False, died, remedy)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "the child failed without a word"
