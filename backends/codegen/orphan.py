"""A child process that is killed, with all that it has started, when its parent has died.

Linux's ``PR_SET_PDEATHSIG`` is sent when the *thread* ends that started the child, and to the child
alone: neither is what is wanted where threads share children that run compilers.

A call that holds Python's lock puts it off; TVM's compiler lets go of it.
"""

import os
import select
import signal
import threading
import time


def end_with(parent: int) -> None:
    """Kill this process's group, which must be its own, once ``parent`` is its parent no more."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    try:
        handle = os.pidfd_open(parent)
    except (AttributeError, OSError):  # Linux before 5.3, or nothing of that number any more
        handle = None
    while os.getppid() == parent:  # looked at with the handle open: it is the parent's
        if handle is None:
            time.sleep(1.0)
        else:
            select.select([handle], [], [])
    os.killpg(0, signal.SIGKILL)
