"""The CUDA device of this machine, asked through its driver's library."""

import ctypes
from functools import cache

_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR``."""


@cache
def compute_capability() -> int:
    """80 for sm_80; 0 where there is no CUDA device, or no driver for it."""
    if (opened := _first()) is None:
        return 0
    driver, device = opened
    found = (ctypes.c_int(), ctypes.c_int())
    for attribute, value in zip((_MAJOR, _MINOR), found, strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return 0
    return 10 * found[0].value + found[1].value


@cache
def name() -> str:
    """What the driver calls the device; empty where there is none."""
    text = ctypes.create_string_buffer(256)
    if (opened := _first()) is None or opened[0].cuDeviceGetName(text, 255, opened[1]):
        return ""
    return text.value.decode(errors="replace").strip()


def _first() -> tuple[ctypes.CDLL, ctypes.c_int] | None:
    """The driver and its first device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    return driver, device
