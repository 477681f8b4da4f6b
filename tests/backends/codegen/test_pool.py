"""Compilers that die, hang or complain become one error that names the node."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qc.backends.codegen.cuda.nvcc import check
from qc.backends.codegen.link import run_compiler
from qc.backends.codegen.pool import Pool
from qc.ir.errors import BackendError


@dataclass(frozen=True)
class Trap:
    """Calls ``function`` in the worker, when it is unpickled there."""

    function: Any
    argument: Any

    label = "trap"

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return self.function, (self.argument,)

    def emit(self, name: str) -> Any:
        raise AssertionError("this runs in the worker only")


@pytest.mark.parametrize(
    ("trap", "message"),
    [
        (Trap(os._exit, 7), r"kernel qc_0 of node 'conv1': the process died \(exit code 7\)"),
        (Trap(exec, "while True: pass"), "kernel qc_0 of node 'conv1': took more than 2 s"),
        (Trap(str, "no kernel"), "kernel qc_0 of node 'conv1': AttributeError"),
    ],
)
def test_one_error_names_the_node(trap: Trap, message: str) -> None:
    seconds = 2.0 if trap.function is exec else 600.0
    with Pool(1, seconds) as pool, pytest.raises(BackendError, match=message):
        pool.compile({"qc_0": trap}, {"kind": "llvm"}, lambda symbol: "conv1")


def test_files_in_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tvm", "json", "pickle", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Pool(1, 600.0) as pool, pytest.raises(BackendError, match="AttributeError"):
        pool.compile({"qc_0": Trap(str, "no kernel")}, {"kind": "llvm"}, lambda symbol: "conv1")


def asked(pool: Pool, job: Callable[[], object]) -> object:
    """What one of the pool's children makes of ``job``."""
    return dict(pool.results({"job": job}))["job"]


def test_processes_are_left_to_the_next_pool() -> None:
    with Pool(1, lasting=True) as pool:
        first = asked(pool, os.getpid)
    with Pool(1, lasting=True) as pool:
        assert asked(pool, os.getpid) == first
        with Pool(1, lasting=True) as other:
            assert asked(other, os.getpid) != first
    with Pool(1) as pool:
        assert asked(pool, os.getpid) != first


def test_they_get_the_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = partial(eval, "__import__('tempfile').gettempdir()")
    with Pool(1, lasting=True) as pool:
        first = asked(pool, os.getpid)
        assert asked(pool, where) != str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Pool(1, lasting=True) as pool:
        assert asked(pool, os.getpid) == first
        assert asked(pool, where) == str(tmp_path)


def test_those_of_a_process_that_forked_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(1, lasting=True) as pool:
        first = asked(pool, os.getpid)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        with Pool(1, lasting=True) as pool:
            assert asked(pool, partial(eval, "__import__('os').getpid()")) != first


def test_processes_that_are_busy_or_dead_are_not_left() -> None:
    with Pool(2, 600.0, lasting=True) as pool:
        jobs = {"forever": partial(exec, "while True: pass"), "pid": os.getpid}
        answers = pool.results(jobs)
        left = next(answers)[1]
        answers.close()
    with Pool(2, lasting=True) as pool:
        died = asked(pool, partial(os._exit, 7))
        assert isinstance(died, str)
        assert "exit code 7" in died
    with Pool(2, lasting=True) as pool:
        assert asked(pool, os.getpid) != left


def test_processes_end_with_the_program() -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from qc.backends.codegen.pool import Pool\n"
        "with Pool(1, lasting=True) as pool: print(dict(pool.results({'job': os.getpid}))['job'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def alive(process: int) -> bool:
    """Whether there is such a process; what nobody has waited for is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(said: Callable[[], bool]) -> bool:
    """Whether it comes true within half a minute."""
    end = time.monotonic() + 30
    while not said() and time.monotonic() < end:
        time.sleep(0.05)
    return said()


def compilers(folder: Path) -> dict[str, Callable[[], object]]:
    """Jobs that wait for a program which waits for another one, as nvcc does; by its name."""
    for name in ("nvcc", "cc"):
        text = f"#!/bin/sh\nsleep 600 &\necho $$ $! > {folder}/{name}.now\n"
        (folder / name).write_text(f"{text}mv {folder}/{name}.now {folder}/{name}.pids\nwait\n")
        (folder / name).chmod(0o755)
    return {
        "nvcc": partial(check, "", "sm_80", folder),
        "cc": partial(run_compiler, ["cc"], folder),
    }


def pids(folder: Path, name: str) -> list[int]:
    """The program and what it has started."""
    assert until((folder / f"{name}.pids").exists)
    return [*map(int, (folder / f"{name}.pids").read_text().split())]


@pytest.mark.parametrize("name", ["nvcc", "cc"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_process_has_started_ends_with_it(
    name: str, interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job = compilers(tmp_path)[name]
    with Pool(2, 600.0) as pool:
        asked(pool, os.getpid)
        if interrupted:
            answers = pool.results({"never": job, "pid": os.getpid})
            next(answers)
            started = pids(tmp_path, name)
            answers.close()
        else:
            pool.seconds, pool.patience = 1.0, 5.0
            assert asked(pool, job) == "took more than 1 s"
            started = pids(tmp_path, name)
        assert until(lambda: not any(map(alive, started)))


BUSY = """
import os, subprocess
started = subprocess.Popen(["sleep", "600"])
with open("now", "w") as file: file.write(f"{os.getpid()} {started.pid}")
os.rename("now", "job.pids")
while True: pass
"""


@pytest.mark.parametrize("before", ["", "import os; del os.pidfd_open\n"])
def test_processes_die_with_a_program_that_is_killed(tmp_path: Path, before: str) -> None:
    """Also those that are busy, which hear of nothing, and what they have started."""
    code = (
        "pool._BOOT = sys.argv[2] + pool._BOOT\n"
        "with pool.Pool(1, 600.0) as p: print(dict(p.results({'job': partial(exec, sys.argv[3])})))"
    )
    program = program_of(code, before, BUSY, folder=tmp_path)
    started = pids(tmp_path, "job")
    assert all(map(alive, started))
    program.kill()
    program.wait()
    assert until(lambda: not any(map(alive, started)))


def test_processes_whose_program_died_before_they_ran_do_nothing(tmp_path: Path) -> None:
    code = (
        "p = pool.Pool(1).__enter__()\n"
        "p._give(p._workers[0], 'job', partial(open, 'done', 'w'))\n"
        "print(p._workers[0].process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    program = program_of(code, folder=tmp_path)
    worker = int(program.communicate()[0])
    assert until(lambda: not alive(worker))
    assert not (tmp_path / "done").exists()


def program_of(code: str, *words: str, folder: Path) -> "subprocess.Popen[str]":
    """A program that has imported the pool."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        f"from functools import partial\nfrom qc.backends.codegen import pool\n{code}"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).resolve().parents[2]), *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def test_processes_outlive_the_thread_that_started_them() -> None:
    """Idle ones pass between threads."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(1) as threads:
            pool = threads.submit(stack.enter_context, Pool(1)).result()
            first = threads.submit(asked, pool, os.getpid).result()
        assert asked(pool, os.getpid) == first


def test_a_group_is_killed_while_its_number_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later it may be that of somebody else, whom it is not allowed to kill, or worse: is."""
    kill, known = os.killpg, []

    def refused(group: int, signal: int) -> None:
        known.append(Path(f"/proc/{group}").exists())
        kill(group, signal)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refused)
    with Pool(1, lasting=True) as pool:
        assert "exit code 7" in str(asked(pool, partial(os._exit, 7)))
        answers = pool.results({"pid": os.getpid})
        os.kill(next(answers)[1], 9)
        assert until(lambda: not alive(pool._workers[0].process.pid))
        assert isinstance(asked(pool, os.getpid), int)
    with Pool(2, lasting=True) as pool:
        answers = pool.results({"never": partial(time.sleep, 600), "pid": os.getpid})
        next(answers)
        answers.close()
    assert len(known) == 4
    assert all(known)


def test_torch_is_not_loaded() -> None:
    with Pool(1, lasting=True) as pool:
        code = "__import__('importlib.util').util.find_spec('torch')"
        assert asked(pool, partial(eval, code)) is None
