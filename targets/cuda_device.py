"""The CUDA device of this machine, asked through its driver's library."""

import ctypes
from functools import cache

_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR``."""


@cache
def compute_capability() -> int:
    """80 for sm_80; 0 where there is no CUDA device, or no driver for it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    device, found = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return 0
    for attribute, value in zip((_MAJOR, _MINOR), found, strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return 0
    return 10 * found[0].value + found[1].value
