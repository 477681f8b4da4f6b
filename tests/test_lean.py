"""Programs of qc's own load TVM without torch; torch can be imported all the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qc import cli, lean

TVM = """
try:
    import torch
except ImportError:
    torch = None
import tvm_ffi
"""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the names of TVM's and torch, of which none is loaded."""
    (tmp_path / "torch.py").touch()
    (tmp_path / "tvm_ffi.py").write_text(TVM.replace("import tvm_ffi", ""))
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").write_text(TVM)
    (tmp_path / "tvm" / "late.py").write_text("import torch")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] in ("torch", "tvm", "tvm_ffi")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("names")
def test_tvm_is_loaded_without_torch() -> None:
    before = list(sys.meta_path)
    with lean.tvm_without_torch():
        import tvm

        assert (tvm.torch, tvm.tvm_ffi.torch) == (None, None)
        assert "_Alone" not in repr(tvm.__spec__)
        import torch  # noqa: F401
        import tvm.late
    assert sys.meta_path == before
    for name in ("torch", "tvm", "tvm.late", "tvm_ffi"):
        del sys.modules[name]


@pytest.mark.usefixtures("names")
def test_torch_that_is_there_stays() -> None:
    import torch

    with lean.tvm_without_torch():
        import tvm
    assert tvm.torch is tvm.tvm_ffi.torch is sys.modules["torch"] is torch
    for name in ("torch", "tvm", "tvm_ffi"):
        del sys.modules[name]


@pytest.mark.usefixtures("names")
def test_outside_of_it_nothing_is_changed() -> None:
    import tvm

    assert tvm.torch is sys.modules["torch"]
    for name in ("torch", "tvm", "tvm_ffi"):
        del sys.modules[name]


def test_a_command_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(
        "qc.console.commands.do_targets",
        lambda _: found.append(type(sys.meta_path[0]).__name__) or 0,
    )
    assert cli.main(["targets"]) == 0
    assert found == ["_Finder"]


def test_tvm_itself(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import conftest\n"
        "from qc.lean import tvm_without_torch\n"
        "with tvm_without_torch(): import tvm\n"
        "print('torch' in sys.modules, tvm.__spec__.loader.__class__.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "SourceFileLoader"]
