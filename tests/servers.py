"""Servers of the tests: devices on this machine, TVM's tracker, and an emulated ARM board."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import emulators
import pytest

SERVER = Path(__file__).resolve().parent.parent / "backends" / "codegen" / "device_server.py"

_TRACKER = """
import runpy, sys
sys.modules["torch"] = None  # TVM would import it, which takes seconds
runpy.run_module("tvm.exec.rpc_tracker", run_name="__main__")
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@dataclass
class Server:
    """A server in a process group of its own, and what it said."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def start(self, says: str, seconds: float = 120.0) -> "Server":
        """Start, and wait until it says that it serves."""
        with self.log.open("a") as out:
            before = out.tell()
            self.process = subprocess.Popen(
                [*self.command, "--port", str(self.port)], stdout=out, stderr=out,
                start_new_session=True, env={**os.environ, **self.environment},
            )  # fmt: skip
        deadline = time.monotonic() + seconds
        while says not in self.log.read_text()[before:]:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it and all its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(folder: Path, *options: object) -> Iterator[Server]:
    """This machine as a device."""
    log = folder / f"server-{free_port()}.log"
    server = Server([sys.executable, str(SERVER), *map(str, options)], log).start("qc: serving")
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def board_serving(folder: Path) -> Iterator[Server]:
    """An emulated ARM board as a device; skips with a reason where there is none."""
    try:
        command, environment = emulators.board_command()
    except emulators.Unavailable as error:
        pytest.skip(str(error))
    # Programs cannot start others there: without the supervisor.
    server = Server([*command, str(SERVER), "--inner"], folder / "board.log", environment)
    server.start("qc: serving")
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def tracking(folder: Path) -> Iterator[Server]:
    """TVM's tracker."""
    words = ["--host", "127.0.0.1", "--port-end", "65536"]
    command = [sys.executable, "-c", _TRACKER, *words]
    server = Server(command, folder / "tracker.log").start("bind to")
    try:
        for _ in range(100):  # it says so before it listens
            try:
                socket.create_connection(("127.0.0.1", server.port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield server
    finally:
        server.kill()
