"""PyTorch networks through the Python interface and the command line: files, callables, modules."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from torch import nn  # noqa: E402

import qc  # noqa: E402
from qc.cli import main  # noqa: E402
from qc.ir.errors import DataError, FrontendError  # noqa: E402
from qc.loading import load_concrete  # noqa: E402

SOURCE = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(2, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x):
        return {"logits": self.fc(torch.relu(self.conv(x)).mean((2, 3)))}


class Branch(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


def small():
    return Small(), (torch.randn(1, 2, 8, 8),)


def one_tensor():
    return Small(), torch.randn(1, 2, 8, 8)


def by_name():
    return Small(), {"x": torch.randn(1, 2, 8, 8)}


def exported():
    batch = torch.export.Dim("batch")
    return torch.export.export(Small(), (torch.randn(2, 2, 8, 8),), dynamic_shapes=({0: batch},))


def branch():
    return Branch(), (torch.randn(3),)


def alone():
    return Small()


def nothing():
    return 3


def unlucky():
    raise RuntimeError("no weights\\n\\nin this house")


number = 7
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is current, with the module ``networks`` in it, known to nobody else."""
    (tmp_path / "networks.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    return tmp_path


@pytest.fixture
def small(place: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.syspath_prepend(str(place))
    import networks

    return networks.Small().eval()


X = np.random.default_rng(0).standard_normal((1, 2, 8, 8)).astype(np.float32)


def logits(graph: qc.Graph) -> np.ndarray:
    return qc.evaluate(graph, {"x": X})["logits"]


def test_a_module_an_exported_program_a_file_and_a_callable_are_one(
    small: nn.Module, place: Path
) -> None:
    program = torch.export.export(small, (torch.from_numpy(X),))
    torch.export.save(program, place / "small.pt2")
    want = small(torch.from_numpy(X))["logits"].detach().numpy()
    for graph in (
        qc.load(small, (torch.from_numpy(X),)),
        qc.load(small, torch.from_numpy(X)),
        qc.load(small, {"x": torch.from_numpy(X)}),
        qc.load(program),
        qc.load(place / "small.pt2"),
        qc.load("networks:small"),
        qc.load("networks:one_tensor"),
        qc.load("networks:by_name"),
        qc.load("networks:exported"),
    ):
        assert [v.name for v in graph.outputs] == ["logits"]
        assert np.abs(logits(graph) - want).max() <= 1e-5 * np.abs(want).max()


def test_a_symbolic_batch_is_bound(place: Path) -> None:
    assert qc.load("networks:exported").inputs[0].type.shape == ("x.0", 2, 8, 8)
    graph = qc.load("networks:exported", input_shapes={"x": (3, 2, 8, 8)})
    assert graph.inputs[0].type.shape == (3, 2, 8, 8)
    graph = load_concrete("networks:exported", {}, lambda _: {})
    assert graph.inputs[0].type.shape == (1, 2, 8, 8)
    with pytest.raises(DataError, match="--input-shape x=1,2,9,8"):
        qc.load("networks:exported", input_shapes={"x": (1, 2, 9, 8)})


def test_a_callable_is_called_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "networks.py").open("a") as file:
        file.write("\n\ndef counted():\n    print('called')\n    return exported()\n")
    load_concrete("networks:counted", {}, lambda _: {})
    assert capsys.readouterr().out == "called\n"


def test_a_module_is_compiled(small: nn.Module) -> None:
    graph = qc.load(small, torch.from_numpy(X))
    feeds = [{"x": X * f} for f in (1.0, 0.5, -1.0)]
    artifact = qc.compile(graph, recipe="int8", calibration=feeds)
    want, got = logits(graph), artifact.run({"x": X})["logits"]
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()


@pytest.mark.parametrize("model", ["small.pt2", "networks:small"])
def test_the_command_line(
    model: str, small: nn.Module, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model.endswith(".pt2"):
        torch.export.save(torch.export.export(small, (torch.from_numpy(X),)), place / model)
    x = np.random.default_rng(1).standard_normal((8, 2, 8, 8)).astype(np.float32)
    np.savez(place / "calib.npz", x=x)
    assert main(["inspect", model]) == 0
    assert "float32[1,2,8,8]" in capsys.readouterr().out
    assert main(["compile", model, "--calib", "calib.npz", "-o", "out"]) == 0
    shown = capsys.readouterr().out
    assert "code on 1 sample" in shown
    report = json.loads((place / "out" / "report.json").read_text())
    assert report["model"] == model
    assert [x["name"] for x in report["layers"]] == ["conv", "relu", "mean", "fc"]
    assert {x["precision"] for x in report["layers"]} == {"int8"}
    words = ["eval", "out", "--data", "calib.npz", "--metric", "mse", "--against", model]
    assert main([*words, "--json", "score.json"]) == 0
    assert json.loads((place / "score.json").read_text())["value"] < 0.01


# -- bad input -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    module = nn.Linear(4, 4)
    torch.save(module.state_dict(), folder / "weights.pt2")
    torch.save(module, folder / "weights.pth")
    (folder / "text.pt2").write_text("hello")
    for name, inside in (("zip.pt2", "a.txt"), ("damaged.pt2", "damaged/models/model.json")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(inside, "{}")
    torch.export.save(torch.export.export(module, (torch.zeros(4),)), folder / "whole.pt2")
    (folder / "truncated.pt2").write_bytes((folder / "whole.pt2").read_bytes()[:2000])
    return folder


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nowhere:small", "module 'nowhere' cannot be imported: ModuleNotFoundError"),
        ("networks:smal", "networks has no 'smal'; did you mean 'small'?"),
        ("networks:number", "is a int, which cannot be called"),
        ("networks:nothing", "returns a int, not an nn.Module and its example inputs"),
        ("networks:alone", "returns a module without example inputs; return both"),
        ("networks:unlucky", "networks:unlucky fails: RuntimeError: no weights (at networks.py:"),
        ("networks:branch", "control flow depends on data"),
        ("missing.pt2", "model 'missing.pt2' does not exist"),
        ("text.pt2", "not a program of torch.export.save, or a truncated one"),
        ("weights.pt2", "a pickle (torch.save), not an exported program"),
        ("weights.pth", "a pickle (torch.save), not an exported program"),
        ("zip.pt2", "a zip, not an exported program"),
        ("truncated.pt2", "not a program of torch.export.save, or a truncated one"),
        ("damaged.pt2", "torch.export.load fails"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    model: str, text: str, bad_files: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (bad_files / model).is_file():
        shutil.copy(bad_files / model, place)
    assert main(["inspect", model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qc: error: ")
    assert err.count("\n") == 1
    assert text in err


def test_a_pickle_is_not_executed(place: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (place / "executed",))

    torch.save(Bomb(), place / "bomb.pt2")
    with pytest.raises(FrontendError, match="a pickle"):
        qc.load(place / "bomb.pt2")
    assert not (place / "executed").exists()


def test_a_module_needs_example_inputs_and_nothing_else_does(small: nn.Module, place: Path) -> None:
    with pytest.raises(FrontendError, match=r"an nn\.Module needs example inputs"):
        qc.load(small)
    with pytest.raises(FrontendError, match=r"example inputs are for an nn\.Module"):
        qc.load(place / "x.onnx", {"x": (1, 2, 8, 8)})


def test_a_weight_that_is_not_finite_is_named(small: nn.Module) -> None:
    with torch.no_grad():
        small.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(FrontendError, match=r"weight 'conv.weight'.* holds 1 values, NaN"):
        qc.load(small, torch.from_numpy(X))
