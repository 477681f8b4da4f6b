"""This machine, from its cpu flags.

TVM's and LLVM's own detection is never asked: it took a Sapphire Rapids for a machine without AMX.
"""

import os
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .cpus import CPUS, HOST_ARM, HOST_X86, IMPLIES, Features
from .cuda_device import compute_capability
from .target import Target, from_table

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_LLVM_NAME = {
    "abm": "lzcnt",
    "asimd": "neon",
    "vfpv4": "vfp4",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
    "bmi1": "bmi",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx_vnni": "avxvnni",
}
_VECTOR = {"avx512f": 64, "avx2": 32}


def parse_flags(cpuinfo: str) -> Features:
    """Features (LLVM's names) in the text of ``/proc/cpuinfo``: those of the first cpu."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(map(_feature, value.split())) & IMPLIES.keys()
    return frozenset()


def _feature(flag: str) -> str:
    if flag in _LLVM_NAME:
        return _LLVM_NAME[flag]
    if flag.startswith("avx512_"):
        return "avx512" + flag.removeprefix("avx512_")
    return flag.replace("amx_", "amx-")


@cache
def features() -> Features:
    """What this machine's cpu can do."""
    try:
        return parse_flags(_CPUINFO.read_text())
    except OSError:
        return frozenset()


def best_cpu(have: Features, machine: str) -> str:
    """The best cpu name whose features are all in ``have``; the family's least one otherwise."""
    order = HOST_X86 if machine in ("x86_64", "AMD64") else HOST_ARM
    return next((cpu for cpu in order if CPUS[cpu] <= have), order[-1])


def host(have: Features | None = None, machine: str = "") -> Target:
    """This machine as a target (``have`` and ``machine`` stand in for it in tests)."""
    here = features() if have is None else have
    machine = machine or platform.machine()
    cpu = best_cpu(here, machine)
    x86 = machine in ("x86_64", "AMD64")
    return from_table(
        "host",
        {
            "triple": f"{'x86_64' if x86 else machine}-linux-gnu",
            "description": f"this machine, as {cpu}",
            "cpu": cpu,
            "vector_bytes": next((n for f, n in _VECTOR.items() if f in CPUS[cpu]), 16),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
            "available": x86 or machine == "aarch64",
            "instructions": _instructions(CPUS[cpu]),
            **_caches(),
        },
    )


def _instructions(have: Features) -> dict[str, list[int]]:
    shapes = {
        "amx-int8": ("tdpbusd", [16, 16, 64]),
        "avx512vnni": ("vpdpbusd", [1, 16, 4]),
        "avx2": ("vpmaddwd", [1, 8, 2]),
        "i8mm": ("smmla", [2, 2, 8]),
        "dotprod": ("sdot", [1, 4, 4]),
    }
    return {name: shape for feature, (name, shape) in shapes.items() if feature in have}


def _caches() -> dict[str, int]:
    """Sizes in bytes of the data and unified caches of the first core, as far as known."""
    out: dict[str, int] = {}
    for entry in sorted(_CACHES.glob("index*")):
        try:
            kind, size = (entry / "type").read_text().strip(), (entry / "size").read_text().strip()
            level = int((entry / "level").read_text())
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and level <= 3 and size[:-1].isdigit():
            out[f"l{level}"] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}.get(size[-1], 0)
    return out


def missing_features(target: Target | Iterable[str]) -> list[str]:
    """What this machine lacks to run code for ``target`` (or for a list of features), by name."""
    if not isinstance(target, Target):
        return sorted(set(target) - features())
    machine = platform.machine().replace("AMD64", "x86_64").replace("armv7l", "armv7")
    if not target.triple.startswith(machine):
        return [f"a machine {target.triple.split('-')[0]} (this is {machine})"]
    if target.arch and compute_capability() < int(target.arch.removeprefix("sm_")):
        return [f"a CUDA device {target.arch}"]
    return sorted(target.required - features())
