"""Searches that are interrupted or end after a few steps: started, waited for, and counted."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from qc.backends.codegen.tuning import search

from .test_cli import START

HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What a shell starts in the background ignores Ctrl-C, and so do its children."""

COUNTS = """
from itertools import count
from qc.lean import tvm_without_torch
with tvm_without_torch():
    from qc.backends.codegen.tuning import search
search.monotonic = count().__next__
"""
"""A clock that goes by the steps of the search, of which machines do more or fewer in a second."""


def seconds_of(steps: int) -> float:
    """The time that such a clock says after so many steps."""
    return (steps + 0.5) / search.SEARCH


def counting(patch: pytest.MonkeyPatch, steps: int) -> float:
    """Give the searches of this process that clock; the seconds of one of so many steps."""
    patch.setattr(search, "monotonic", count().__next__)
    return seconds_of(steps)


def searching(
    artifact: Path, database: Path, *words: str, steps: int = 1000
) -> "subprocess.Popen[str]":
    """``qc tune`` of an artifact, in a process group of its own, once it has first records."""
    command = ["tune", str(artifact), "--db", str(database), "--seconds", str(seconds_of(steps))]
    start = START.replace("import conftest", f"import conftest\n{COUNTS}")
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HEARS}\n{start}", *command, *words],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not database.exists():
        time.sleep(0.01)
    return process


def times_measured(records: Sequence[Mapping[str, Any]]) -> "Counter[str]":
    """How often each kernel was measured, finals apart."""
    return Counter(
        f"{r['workload']} {r['template']} {r['knobs']}" for r in records if not r["final"]
    )
