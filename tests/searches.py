"""Searches that are interrupted: started, waited for, and counted."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .test_cli import START

HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What a shell starts in the background ignores Ctrl-C, and so do its children."""


def searching(artifact: Path, database: Path, *words: str) -> "subprocess.Popen[str]":
    """``qc tune`` of an artifact, in a process group of its own, once it has first records."""
    command = ["tune", str(artifact), "--db", str(database), "--seconds", "200", *words]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HEARS}\n{START}", *command],
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
