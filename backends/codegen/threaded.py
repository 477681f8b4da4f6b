"""A network on several threads: its library, loaded by TVM's runtime, which has the pool."""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ...ir.types import Array

_SHARE_ALL = -3
"""``ThreadGroup::AffinityMode``: any thread may run on any of the processors given."""


def threaded(
    library: str, threads: int, suffix: str
) -> tuple[Any, Callable[[Sequence[Array]], list[Any]]]:
    """The library's function for ``threads``, and what makes its arguments of arrays.

    Only the runtime's library is loaded: importing ``tvm`` would load its compiler, or keep it from
    the whole process and from its children.
    """
    import tvm_ffi

    tvm_ffi.libinfo.load_lib_ctypes("apache-tvm", "tvm_runtime", "RTLD_GLOBAL")
    # Unless it is given them, TVM takes every second processor for a hyperthread, and with one left
    # runs all on the caller's thread.  (TVM_NUM_THREADS would reach the children of this process.)
    processors = [str(p) for p in sorted(os.sched_getaffinity(0))]
    configure = tvm_ffi.get_global_func("runtime.config_threadpool")
    pools = threading.local()  # every thread that calls has a pool of its own

    def arguments(arrays: Sequence[Array]) -> list[Any]:
        if not getattr(pools, "made", False):
            configure(_SHARE_ALL, threads, processors)
            pools.made = True
        return [*arrays, threads]

    arguments([])  # starts the threads of the one that loads
    return tvm_ffi.load_module(library)[f"main_parallel{suffix}"], arguments
