"""What is said where torch is not installed; everything else works without it."""

import sys
from pathlib import Path

import pytest

import qc
from qc.ir.errors import BackendError, FrontendError

from .small_model import write_model


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not there: what is None in ``sys.modules`` cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch", None)


def test_programs_need_torch(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/models/model.json", "{}")
    for model in (tmp_path / "m.pt2", "package.module:callable"):
        with pytest.raises(FrontendError, match=r"pip install 'qc-compiler\[torch\]'"):
            qc.load(model)


def test_modules_need_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("qc.backends.torch_fx.")]:
        monkeypatch.delitem(sys.modules, name)
    graph = qc.load(write_model(tmp_path / "m.onnx"))
    with pytest.raises(BackendError, match=r"pip install 'qc-compiler\[torch\]'"):
        qc.to_torch(graph)


def test_onnx_does_not(tmp_path: Path) -> None:
    assert qc.load(write_model(tmp_path / "m.onnx")).outputs[0].name == "y"
