"""Compilers that die, hang or complain become one error that names the node."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
