"""The name of a machine, as it stands beside what was measured on it."""

import platform
from pathlib import Path

from ....targets import cuda_device
from ....targets.target import Target


def local(target: Target) -> str:
    """Under which name this machine measures kernels for ``target``, which it can run."""
    return f"local {cuda_device.name()} {target.arch}" if target.arch else f"local {processor()}"


def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
