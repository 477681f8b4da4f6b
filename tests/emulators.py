"""Emulated ARM for the tests: qemu-user, and a whole board that serves TVM's RPC; without root.

qemu is the system's, else Debian's package unpacked into a cache; the board is ``arm_root.py``'s.

python tests/emulators.py      # set both up; prints the folders, or why there is none
"""

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = "qemu-user-static"
PROGRAMS = ("qemu-aarch64", "qemu-arm")
WHEELS = ("apache-tvm", "apache-tvm-ffi", "ml_dtypes", "numpy", "typing_extensions")
"""What a board needs: TVM with what it imports, in the versions of this machine."""


HERE = Path(__file__).resolve().parent


class Unavailable(Exception):
    """Why there is no emulator."""


def folder() -> Path:
    """The cache: ``QC_EMULATORS``, else under the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("QC_EMULATORS") or Path(base) / "qc" / "emulators")


@cache
def set_up() -> None:
    """Put the emulators on ``PATH``; ``Unavailable`` says why that cannot be."""
    if all(map(shutil.which, PROGRAMS)):
        return
    cached = folder()
    try:
        cached.mkdir(parents=True, exist_ok=True)
        with (cached / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (cached / PROGRAMS[-1]).exists():
                _unpack(cached)
    except OSError as error:
        raise Unavailable(f"no qemu: {error}") from error
    os.environ["PATH"] = f"{cached}{os.pathsep}{os.environ['PATH']}"


@cache
def board() -> Path:
    """An ARM root with TVM; ``Unavailable`` says why there is none."""
    set_up()
    wheels = [f"{name}=={version(name)}" for name in WHEELS]
    root = folder() / "board"
    stamp = root / "wheels.txt"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with (folder() / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not stamp.exists() or stamp.read_text().split() != wheels:
                shutil.rmtree(root, ignore_errors=True)
                _run([sys.executable, str(HERE / "arm_root.py"), str(root), *wheels], HERE)
                for rest in ("wheels", "apt"):
                    shutil.rmtree(root / rest)
                (root / "site" / "tvm" / "lib" / "libtvm_compiler.so").unlink()  # 240 MB
                stamp.write_text("\n".join(wheels))
    except OSError as error:
        raise Unavailable(f"no ARM board: {error}") from error
    return root


def board_command(cpu: str = "cortex-a76") -> tuple[list[str], dict[str, str]]:
    """Python on the board: the command and its environment."""
    root = board()
    python = str(root / "usr" / "bin" / "python3")
    environment = {
        "PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(root / "site"),
        "TVM_USE_RUNTIME_LIB": "1",
    }  # fmt: skip
    return ["qemu-aarch64", "-cpu", cpu, "-L", str(root), python], environment


def _unpack(cached: Path) -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no qemu-user installed, and no {tool} to fetch it")
    scratch = cached / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _run(["apt-get", "download", PACKAGE], scratch)
    except Unavailable:
        _run(["apt-get", "update"], scratch)
        _run(["apt-get", "download", PACKAGE], scratch)
    package = next(scratch.glob("*.deb"))
    _run(["dpkg", "-x", str(package), str(scratch)], scratch)
    for name in PROGRAMS:
        names = (scratch / "usr" / "bin" / n for n in (f"{name}-static", name))
        os.replace(next(path for path in names if path.exists()), cached / name)
    shutil.rmtree(scratch)


def _run(command: list[str], where: Path) -> None:
    try:
        subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, timeout=120)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"{' '.join(command)}: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(command)} took more than two minutes") from error


if __name__ == "__main__":
    try:
        ready = board()
    except Unavailable as error:
        sys.exit(str(error))
    print(Path(str(shutil.which(PROGRAMS[0]))).parent)
    print(ready)
