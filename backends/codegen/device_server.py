"""Serves this machine to ``qc ... --device``: TVM's RPC server, restarted whenever it dies.

The file needs Python and TVM's wheel only, so a board without ``qc`` can run it by itself:
``python device_server.py --port 9190``.  Whoever connects can run any code here: TVM's key is a
match string, not a secret.  So it listens on the loopback interface, to which ``ssh`` leads.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PORT = 9190
TIMEOUT = 600.0
"""Seconds after which a session is ended."""

DANGER = "--let-anyone-on-the-network-run-code-here"
_SHARE_ALL = -3
"""TVM's ``ThreadGroup::AffinityMode``: any thread on any of the processors given."""

_PAUSE = 1.0
_ATTEMPTS = 3
_SERVED = 75
"""Exit status of a server that ended after it had begun to serve."""


def main(words: Sequence[str] | None = None) -> int:
    """Check the arguments, then serve until interrupted."""
    args = parser().parse_args(words)
    if problem := refusal(args):
        print(f"qc: error: {problem}", file=sys.stderr)
        return 2
    return _serve(args) if args.inner else _supervise(args)


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = argparse.ArgumentParser(prog="qc device serve", description=__doc__)
    top.add_argument("--port", type=int, default=PORT, metavar="P", help=f"default: {PORT}")
    top.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                     help=f"where to listen; another one than loopback needs {DANGER}")  # fmt: skip
    top.add_argument(DANGER, action="store_true", dest="open",
                     help="listen where others can connect: they can do what you can")  # fmt: skip
    top.add_argument("--tracker", metavar="HOST:PORT", help="register with TVM's tracker")
    top.add_argument("--key", default="", metavar="K", help="the kind of board, for the tracker")
    top.add_argument("--session-timeout", type=float, default=TIMEOUT, metavar="SECONDS",
                     help=f"end sessions after so long (default: {TIMEOUT:.0f})")  # fmt: skip
    top.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    top.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)
    return top


def refusal(args: argparse.Namespace) -> str:
    """Why these arguments are not served, else an empty string."""
    if not 0 < args.port < 65536:
        return f"--port {args.port} is not between 1 and 65535"
    if not args.session_timeout > 0:
        return f"--session-timeout {args.session_timeout:g} must be above zero"
    if args.host not in LOOPBACK and not args.open:
        return (
            f"--host {args.host} lets anyone who can connect run code as "
            f"{os.environ.get('USER') or 'you'}; use ssh -L {args.port}:localhost:{args.port}, "
            f"or say {DANGER}"
        )
    if args.tracker and not args.key:
        return "--tracker needs --key K, the kind of board"
    if args.tracker and not args.tracker.rpartition(":")[2].isdigit():
        return f"--tracker {args.tracker!r} is not HOST:PORT"
    if not args.inner and (why := _bound(args.host, args.port)):
        return f"cannot listen on {args.host}:{args.port}: {why}"
    return ""


def _bound(host: str, port: int) -> str:
    """Why a port cannot be had, else an empty string."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        return str(error.strerror)
    return ""


def _supervise(args: argparse.Namespace) -> int:
    """Run the server in a child process; a session that crashes takes TVM's server with it."""
    command = [
        sys.executable, __file__, "--inner", "--lifeline", "--host", args.host,
        "--port", str(args.port), "--session-timeout", str(args.session_timeout),
        "--key", args.key, *(["--tracker", args.tracker] if args.tracker else []),
        *([DANGER] if args.open else []),
    ]  # fmt: skip
    # The runtime library is enough, and loads faster than the compiler.
    environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell ignores the first one
        signal.signal(number, _interrupt)
    child, failures = None, 0
    try:
        while failures < _ATTEMPTS:
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, process_group=0
            )
            code = child.wait()
            _end(child)
            failures = 0 if code == _SERVED or code < 0 else failures + 1
            print(f"qc: the server ended with status {code}; starting again", file=sys.stderr)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        if child is not None:
            _end(child)
        print("qc: interrupted", file=sys.stderr)
        return 130
    print(f"qc: error: the server does not start; {_ATTEMPTS} times tried", file=sys.stderr)
    return 1


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kill the server and its sessions, which are a process group."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _die_with_the_supervisor() -> None:
    """Wait for the end of the input, which it holds; then end the whole group."""
    os.read(0, 1)  # a lock of sys.stdin's, held here, would stop the forked sessions
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _serve(args: argparse.Namespace) -> int:
    if args.lifeline:
        threading.Thread(target=_die_with_the_supervisor, daemon=True).start()
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM would import it: 3 s at each start
    import tvm_ffi
    from tvm.rpc import server

    parse = server._parse_server_opt

    def limited(options: Sequence[str]) -> dict[str, float]:
        """What the caller wants, but no session without an end."""
        found: dict[str, float] = parse(options)
        asked = found.get("timeout", args.session_timeout)
        return found | {"timeout": min(asked, args.session_timeout)}

    server._parse_server_opt = limited  # TVM leaves the limit to the caller alone
    tvm_ffi.register_global_func("qc.describe", describe, override=True)
    tvm_ffi.register_global_func("qc.threads", spread, override=True)
    tracker = None
    if args.tracker:
        host, _, port = args.tracker.rpartition(":")
        tracker = (host, int(port))
    state = server.PopenRPCServerState(
        args.host, args.port, args.port + 1, key=args.key, tracker_addr=tracker,
        custom_addr=args.host if tracker else None, silent=True,
    )  # fmt: skip
    print(f"qc: serving {platform.machine()} on {args.host}:{args.port}", flush=True)
    if args.host in LOOPBACK:
        print(
            f"qc: from another machine: ssh -L {args.port}:localhost:{args.port} THIS_MACHINE, "
            f"then qc ... --device localhost:{args.port}",
            flush=True,
        )
    state.thread.join()
    return _SERVED


def spread(threads: int) -> None:
    """Let as many threads share all processors; TVM takes every second one for a hyperthread."""
    import tvm_ffi

    processors = [str(p) for p in sorted(os.sched_getaffinity(0))]
    tvm_ffi.get_global_func("runtime.config_threadpool")(_SHARE_ALL, threads, processors)


def describe() -> str:
    """This machine for the caller, as JSON: architecture, processor, its flags, TVM's version."""
    import tvm

    flags, model = "", ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            flags = flags or (value if key.strip() in ("flags", "Features") else "")
            model = model or (value.strip() if key.strip() in ("model name", "CPU part") else "")
    except OSError:
        pass
    facts = {
        "machine": platform.machine(), "processor": model, "flags": flags.strip(),
        "tvm": tvm.__version__,
    }  # fmt: skip
    return json.dumps(facts)


if __name__ == "__main__":
    sys.exit(main())
