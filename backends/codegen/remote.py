"""Another machine through TVM's RPC: jobs for a child process, which may wait without end.

A job that loses its machine returns ``Lost``; other failures are the business of what it ran.
"""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...ir.errors import BackendError
from ...ir.types import Array
from .address import Address
from .pool import Pool

SESSION = 60.0
"""Seconds that a session may last: the server ends one that hangs, and says so."""

_BENCH = 15.0
"""Seconds that a benchmark may take; with its first runs it must fit a session."""

_REACH = 5.0
_RESTART = 20.0
_BUSY = SESSION + 10.0
ANSWER = 2 * _BUSY
"""Seconds after which a machine is given up."""

_T = TypeVar("_T")

_sessions: dict[Address, "_Session"] = {}


@dataclass(frozen=True)
class Lost:
    """Why a machine cannot be worked with any more."""

    why: str


@dataclass
class _Session:
    """A connection that a child process keeps, with the libraries that it brought there."""

    remote: Any
    began: float
    modules: dict[str, Any]


def session(address: Address) -> _Session:
    """The child's connection, made when there is none or it is about to be ended.

    Raises ``OSError`` where nobody answers.
    """
    found = _sessions.get(address)
    if found is not None and time.monotonic() - found.began < SESSION / 2:
        return found
    drop(address)
    with socket.create_connection((address.host, address.port), timeout=_REACH):
        pass
    # A server that serves somebody else accepts, and answers when that is over.
    failures: list[Exception] = []
    thread = threading.Thread(target=_connect, args=(address, failures), daemon=True)
    thread.start()
    thread.join(_BUSY)
    if failures:
        raise OSError(reason(failures[0])) from failures[0]
    if address not in _sessions:
        raise TimeoutError(f"no answer in {_BUSY:.0f} s: busy with somebody else, or hanging")
    return _sessions[address]


def _connect(address: Address, failures: list[Exception]) -> None:
    from tvm import rpc

    try:
        if address.key:
            tracker = rpc.connect_tracker(address.host, address.port)
            remote = tracker.request(address.key, session_timeout=SESSION, max_retry=1)
        else:
            remote = rpc.connect(address.host, address.port, session_timeout=SESSION)
    except Exception as error:
        failures.append(error)
    else:
        _sessions[address] = _Session(remote, time.monotonic(), {})


def unreachable(address: Address) -> str:
    """Why there is no connection even after the time that a server takes to start again."""
    deadline = time.monotonic() + _RESTART
    while True:
        try:
            session(address)
            return ""
        except TimeoutError as error:
            return reason(error)
        except OSError as error:
            if time.monotonic() > deadline:
                return reason(error)
        time.sleep(1.0)


def drop(address: Address) -> None:
    """Close and forget a connection, as after an error."""
    _sessions.pop(address, None)


def library(address: Address, path: str) -> tuple[Any, Any]:
    """The connection's ``remote`` and the library at ``path``, loaded there once."""
    found = session(address)
    data = Path(path).read_bytes()
    name = f"qc-{hashlib.sha256(data).hexdigest()[:16]}.so"
    if name not in found.modules:
        found.remote.upload(bytearray(data), name)
        found.modules[name] = found.remote.load_module(name)
    return found.remote, found.modules[name]


@dataclass(frozen=True)
class Describe:
    """Asks a device what it is."""

    address: Address

    def __call__(self) -> dict[str, Any] | Lost:
        """The table of ``device_server.describe``; empty for a server of TVM's own."""
        try:
            remote = session(self.address).remote
        except (OSError, RuntimeError) as error:
            return Lost(reason(error))
        try:
            return dict(json.loads(remote.get_function("qc.describe")()))
        except Exception:  # TVM's own server does not know the function
            return {}


@dataclass(frozen=True)
class Invoke:
    """Runs an artifact's library once; the outputs come back."""

    address: Address
    path: str
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[tuple[int, ...], str], ...]
    workspace: int
    threads: int = 1

    def __call__(self) -> list[Array] | Lost:
        """Upload what is not there, run, fetch."""
        return self._there(self._run)

    def _run(self, remote: Any, module: Any) -> list[Array]:
        arguments = self._arguments(remote)
        self._function(remote, module)(*arguments)
        outputs = arguments[len(self.inputs) : len(self.inputs) + len(self.outputs)]
        return [t.numpy() for t in outputs]

    def _there(self, work: Callable[[Any, Any], list[_T]]) -> list[_T] | Lost:
        """``work`` with the connection and the library; tried again where a kept one had ended."""
        for kept in (self.address in _sessions, False):
            if why := unreachable(self.address):
                return Lost(why)
            try:
                return work(*library(self.address, self.path))
            except Exception as error:
                drop(self.address)
                why = reason(error)
            if not kept:
                break
        return Lost(why)

    def _arguments(self, remote: Any) -> list[Any]:
        import tvm

        device = remote.cpu(0)
        made = [np.zeros(shape, dtype) for shape, dtype in self.outputs]
        arrays = [*self.inputs, *made, np.zeros(self.workspace, np.uint8)]
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a), device=device) for a in arrays]
        return [*tensors, self.threads] if self.threads > 1 else tensors

    @property
    def _name(self) -> str:
        return "main" if self.threads == 1 else "main_parallel"

    def _function(self, remote: Any, module: Any) -> Any:
        if self.threads > 1:
            remote.get_function("qc.threads")(self.threads)
        return module[self._name]


@dataclass(frozen=True)
class Clock(Invoke):
    """Times an artifact's library on the device; seconds of one run, for several blocks of runs."""

    rounds: int = 15

    def __call__(self) -> list[float] | Lost:  # type: ignore[override]
        """The device's own clock, without the network."""
        return self._there(self._time)

    def _time(self, remote: Any, module: Any) -> list[float]:
        arguments = self._arguments(remote)
        function = self._function(remote, module)
        began = time.perf_counter()
        function(*arguments)
        once = time.perf_counter() - began
        rounds = max(1, min(self.rounds, int(_BENCH / max(once, 0.02))))
        evaluator = module.time_evaluator(
            self._name, remote.cpu(0), number=1, repeat=rounds, min_repeat_ms=20
        )
        return [float(t) for t in evaluator(*arguments).results]


def reason(error: Exception) -> str:
    """The last line that says something, in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Device:
    """A device for one caller: jobs go to a child process with a limit on each."""

    def __init__(self, address: Address, seconds: float = ANSWER) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._pool = Pool(1, seconds, patience=1.0)
        self._pool.__enter__()

    def __call__(self, job: Any) -> Any:
        """What a job returns; ``BackendError`` where the device is lost or does not answer."""
        with self._lock:
            results = dict(self._pool.results({"job": job}))
        result = results["job"]
        if isinstance(result, Lost):
            raise BackendError(f"device {self.address}: {result.why}")
        if isinstance(result, str):
            raise BackendError(
                f"device {self.address}: {result}; is it busy with somebody else, or hanging?"
            )
        return result

    def close(self) -> None:
        """End the child."""
        self._pool.__exit__(None, None, None)

    def check(self, triple: str, features: frozenset[str], tvm: str) -> str:
        """The device's name; ``BackendError`` where it cannot run code for such a target."""
        from ...targets.host import parse_flags

        facts = self(Describe(self.address))
        if not facts:
            return str(self.address)
        where = f"device {self.address}"
        machine = str(facts["machine"])
        if not triple.startswith(machine.replace("armv7l", "armv7")):
            raise BackendError(f"{where} is {machine}; the code is for {triple}")
        lacking = sorted(features - parse_flags(f"flags: {facts['flags']}\n"))
        if lacking:
            raise BackendError(f"{where} lacks {', '.join(lacking)}, which the code needs")
        if facts["tvm"] != tvm:
            raise BackendError(
                f"{where} has TVM {facts['tvm']}, this machine {tvm}; install the same there"
            )
        return f"{machine} {facts['processor']}"


class RemoteEntry:
    """Runs an artifact on a device; called with arrays for all ports and the workspace."""

    def __init__(self, device: Device, path: Path, inputs: int, threads: int) -> None:
        self._device, self._path = device, str(path.resolve())
        self._inputs, self._threads = inputs, threads

    def __call__(self, arrays: Sequence[Array]) -> None:
        """Run once: sends the inputs, fills the outputs."""
        for into, came in zip(
            arrays[self._inputs : -1], self._device(self._job(Invoke, arrays)), strict=True
        ):
            into[...] = came.reshape(into.shape)

    def seconds(self, arrays: Sequence[Array]) -> list[float]:
        """Times of runs on the device."""
        return list(self._device(self._job(Clock, arrays)))

    def _job(self, kind: type[Invoke], arrays: Sequence[Array]) -> Invoke:
        inputs, outputs = arrays[: self._inputs], arrays[self._inputs : -1]
        ports = tuple((a.shape, a.dtype.name) for a in outputs)
        return kind(
            self._device.address, self._path, tuple(inputs), ports, arrays[-1].nbytes,
            self._threads,
        )  # fmt: skip
