"""Kernels for CUDA are tuned: bundles and the local timer, on a device of software."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pretend_cuda
import pytest

pytest.importorskip("tvm")

from qc import api, cli
from qc.backends.codegen.cuda import nvcc
from qc.backends.codegen.cuda.source import Source
from qc.backends.codegen.template import TemplateKernel, candidates
from qc.backends.codegen.tuning import device_trial
from qc.backends.codegen.tuning.choices import Choices
from qc.backends.codegen.tuning.records import Database, Record, Setting, fastest
from qc.ir.text import load as load_graph
from qc.targets import cuda_device, load
from qc.tuning import workloads_of

from .small_model import write_data, write_model

CUDA = load("cuda")
GPU = "Pretended GPU sm_80"
no_device = pytest.mark.skipif(
    cuda_device.compute_capability() > 0, reason="this machine has a CUDA device"
)


@pytest.fixture(autouse=True, scope="module")
def without_nvcc() -> object:
    """The device of software takes source alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvcc, "nvcc", lambda: None)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    write_model(folder / "m.onnx")
    write_data(folder / "calib.npz", 8)
    return folder


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine with a device."""
    return pretend_cuda.install(tmp_path_factory.mktemp("device"))


def bundle(place: Path, name: str) -> Path:
    """A bundle of the small network, unpacked."""
    job = api.Job(place / "m.onnx", "cuda", calibration=place / "calib.npz")
    found = api.tune_bundle(job, place / f"{name}.tar")
    assert (found["workloads"], found["failed"], found["left"]) == (2, 0, 0)
    (place / name).mkdir()
    subprocess.run(["tar", "xf", f"../{name}.tar"], cwd=place / name, check=True)
    return place / name


@pytest.fixture(scope="module")
def unpacked(place: Path) -> Path:
    return bundle(place, "whole")


def run(folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """The bundle's script, as on the machine with the device."""
    return subprocess.run(
        ["sh", "qc-bundle/run.sh"], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(unpacked: Path, device: dict[str, str]) -> Path:
    done = run(unpacked, device)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in unpacked.iterdir()) == ["qc-bundle", "results.json"]
    return unpacked / "results.json"


@pytest.fixture(scope="module")
def kernels(place: Path) -> list[TemplateKernel]:
    """What the network takes by estimate."""
    job = api.Job(place / "m.onnx", "cuda", calibration=place / "calib.npz")
    report = api.compile_to_directory(job, place / "plain")
    assert report.tuning is not None
    assert report.tuning["recorded"] == 0
    return list(workloads_of(load_graph(place / "plain"), CUDA))


def test_all_knobs_travel(unpacked: Path, kernels: list[TemplateKernel]) -> None:
    table = json.loads((unpacked / "qc-bundle" / "bundle.json").read_text())
    assert table["setting"]["cpu"] == "cuda sm_80"
    every = [candidates(k.workload, k.features) for k in kernels]
    assert sorted(map(len, table["programs"].values())) == sorted(map(len, every))
    assert {k["template"] for ks in table["programs"].values() for k in ks} == {"imma", "dp4a"}


def test_a_compilation_takes_what_was_measured(
    results: Path, place: Path, kernels: list[TemplateKernel], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    table = json.loads(results.read_text())
    assert table["device"] == GPU
    runs, last = table["runs"], {}
    for name, kernels_ in table["bundle"]["programs"].items():
        last[name] = len(kernels_) - 1  # the one that the estimate likes least is the fastest
        assert len(runs[name].split(";")) > 7 * len(kernels_)
        runs[name] += f"{last[name]} 0.5;" * 100
    results.with_name("fast.json").write_text(json.dumps(table))
    assert cli.main(["tune", "--import", str(results.with_name("fast.json")), "--db", "db"]) == 0
    assert f"(0 failed, 0 missing) of {GPU} are in db" in capsys.readouterr().out
    words = ["compile", "m.onnx", "--calib", "calib.npz", "--target", "cuda", "--db", "db"]
    assert cli.main([*words, "-o", "tuned"]) == 0
    out = capsys.readouterr().out
    assert f"kernels: 2 of 2 workloads as measured, from db, on bundle {GPU}" in out
    assert ": 0 of 4 values differ from the reference" in out
    choose, other = (Choices(t, Database.open(Path("db"))) for t in (CUDA, load("cuda-sm90")))
    for kernel in kernels:
        every = candidates(kernel.workload, kernel.features)
        assert choose(kernel.workload, kernel.features) == every[-1] != kernel
        assert other(kernel.workload, kernel.features) == kernel, "records are of sm_80"


def broken(place: Path, name: str, change: Callable[[int, str], str]) -> list[str]:
    """What the first program says whose kernels' source was changed by their number."""
    plain = device_trial.text_of_kernel

    def text(source: Source) -> str:
        return change(int(source.name.rpartition("_")[2]), plain(source))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_trial, "text_of_kernel", text)
        return [str(bundle(place, name) / "qc-bundle" / "programs" / "000")]


_INSIDE = {
    1: "*(volatile int *)8 = 1;",
    2: "for (volatile int i = 0;; i++);",
    3: "y_ptr[0] = 0, y_ptr[1] = 255, y_ptr[2] = 0;",
    4: "this is no C;",
    5: "static int n; if (!threadIdx.x && !blockIdx.x && n++ > 9) *(volatile int *)8 = 1;",
    6: "static int n; if (n++ > 9000) y_ptr[0] = 0, y_ptr[1] = 255, y_ptr[2] = 0;",
}
_SAID = {
    1: "died of signal 11",
    2: "took more than 1 s",
    3: "differs from the integer reference",
    4: "NVRTC refuses the kernels: ",
    5: "died of signal 11",
    6: "differs from the integer reference",
}


@pytest.mark.slow
def test_bad_kernels_cost_themselves_alone(
    place: Path, device: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who dies, hangs, gives wrong values or is no code, at once or after many launches."""

    def change(number: int, text: str) -> str:
        body, _, _ = text.rstrip().rpartition("}")
        return f"{body}{_INSIDE.get(number, '')}\n}}\n"

    program = broken(place, "broken", change)
    done = subprocess.run(
        [*program, "1", "1"], env=device, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(x[2:].split(" ", 1) for x in done.stdout.splitlines() if x.startswith("!"))
    assert sorted(said) == [str(k) for k in _INSIDE]
    assert all(said[str(k)].startswith(text) for k, text in _SAID.items()), said
    table = {"device": GPU, "runs": {"000": done.stdout.replace("\n", ";")}}
    table["bundle"] = json.loads((place / "broken" / "qc-bundle" / "bundle.json").read_text())
    (place / "broken.json").write_text(json.dumps(table))
    words = ["tune", "--import", str(place / "broken.json"), "--db", str(place / "broken.db")]
    assert cli.main(words) == 0
    assert f"({len(_INSIDE)} failed, " in capsys.readouterr().out
    records = Database.open(place / "broken.db").records
    found = [r for every in records.values() for r in every]
    assert [r.seconds is None for r in found] == [k in _INSIDE for k in range(len(found))]


@no_device
def test_without_a_device_there_are_no_results(unpacked: Path, tmp_path: Path) -> None:
    here = shutil.copytree(unpacked, tmp_path / "bundle")
    (here / "results.json").unlink(missing_ok=True)
    done = run(here, dict(os.environ))
    assert done.returncode == 1
    assert done.stderr.startswith("no CUDA driver: libcuda.so.1")
    assert not (here / "results.json").exists()


def test_another_device(unpacked: Path, tmp_path: Path) -> None:
    done = run(unpacked, pretend_cuda.install(tmp_path, arch=90))
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "the CUDA device is: sm_90, the kernels are for sm_80: make them for a target of its arch"
    )


@no_device
def test_a_device_that_cannot_compile_blames_no_kernel(unpacked: Path, tmp_path: Path) -> None:
    environment = pretend_cuda.install(tmp_path)
    (tmp_path / "libnvrtc.so").unlink()
    here = shutil.copytree(unpacked, tmp_path / "bundle")
    (here / "results.json").write_text("of an earlier run")
    done = run(here, environment)
    assert done.returncode == 1
    assert "nothing could be measured on this machine" in done.stderr
    assert (here / "results.json").read_text() == "of an earlier run"
    assert not (here / "results.json.part").exists()


def test_bad_results_are_refused(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = json.loads(results.read_text())
    bundle, runs = table["bundle"], table["runs"]
    older = bundle | {"setting": bundle["setting"] | {"templates": 0}}
    bad: list[tuple[dict[str, object], str]] = [
        ({"device": "A GPU sm_86"}, "are of 'A GPU sm_86', and the bundle was for sm_80"),
        ({"bundle": older}, "are of another build: kernels 0 by TVM"),
        ({"runs": runs | {"000": "0 12.5;a kernel failed;"}}, "are damaged"),
        ({"runs": runs | {"000": "! died;"}}, "are damaged"),
    ]
    words = ["tune", "--import", str(tmp_path / "r.json"), "--db", str(tmp_path / "unwritten")]
    for change, message in bad:
        (tmp_path / "r.json").write_text(json.dumps(table | change))
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "unwritten").exists()


@pytest.mark.slow
def test_here(
    place: Path, kernels: list[TemplateKernel], device: dict[str, str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    monkeypatch.setattr(cuda_device, "compute_capability", lambda: 80)
    monkeypatch.setattr("qc.targets.host.compute_capability", lambda: 80)
    monkeypatch.setattr(cuda_device, "name", lambda: "Pretended GPU")
    monkeypatch.setenv("LD_LIBRARY_PATH", device["LD_LIBRARY_PATH"])
    assert cli.main(["tune", "plain", "--db", "here"]) == 0
    assert f"(0 failed, 0 left) on local {GPU}" in capsys.readouterr().out
    database = Database.open(Path("here"))
    for kernel in kernels:
        found = database.results(Setting.of(CUDA), f"local {GPU}", kernel.workload)
        assert set(found) == set(candidates(kernel.workload, kernel.features))
        assert fastest(found) == Choices(CUDA, database)(kernel.workload, kernel.features)


def test_the_driver_is_asked_for_the_device(device: dict[str, str]) -> None:
    """Also what kernels for another architecture could not be timed for."""
    tests = str(Path(__file__).resolve().parent)
    code = (
        "import conftest; from qc.measurers import measurer_here; from qc.targets import load\n"
        "print([measurer_here(load(n)) for n in ('cuda', 'cuda-sm75', 'cuda-sm90')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=device, cwd=tests, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str([f"local {GPU}", "", ""])


@no_device
@pytest.mark.parametrize(
    ("capability", "words", "message"),
    [
        (0, (), "this machine lacks a CUDA device sm_80; give --bundle"),
        (90, (), "a CUDA device sm_80 (this one is sm_90: give a target of that arch)"),
        (80, ("--device", "pi:9190"), "--device and --tracker do not serve CUDA"),
        (80, ("--searcher", "metaschedule"), "makes no kernels for CUDA"),
    ],
)
def test_who_cannot_tune(
    capability: int, words: tuple[str, ...], message: str, place: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cuda_device, "compute_capability", lambda: capability)
    monkeypatch.setattr("qc.targets.host.compute_capability", lambda: capability)
    assert cli.main(["tune", str(place / "m.onnx"), "--target", "cuda", *words]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_several_devices(
    place: Path, kernels: list[TemplateKernel], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The last one's times count unless another one is asked for."""
    database = Database(tmp_path / "db")
    for number, name in enumerate(("bundle One sm_80", "bundle Other sm_80")):
        for kernel in kernels:
            every = candidates(kernel.workload, kernel.features)
            record = Record.of(Setting.of(CUDA), name, every[number], 1e-6, final=True)
            database.add([record])
    words = ["compile", str(place / "m.onnx"), "--calib", str(place / "calib.npz"), "--target"]
    words += ["cuda", "--db", str(tmp_path / "db"), "-o", str(tmp_path / "out")]
    choose = Choices(CUDA, database)
    chosen = [choose(k.workload, k.features) for k in kernels]
    assert chosen == [candidates(k.workload, k.features)[1] for k in kernels]
    assert choose.judges == {"bundle Other sm_80": 2}
    assert cli.main([*words, "--measured-on", "One"]) == 0
    out = capsys.readouterr().out
    assert "on bundle One sm_80\n" in out
    assert "'bundle Other sm_80' measured some, too (--measured-on NAME takes theirs)" in out
    for name, why in {"sm_80": "is part of several names", "Third": "is nobody"}.items():
        assert cli.main([*words, "--measured-on", name]) == 2
        error = capsys.readouterr().err
        assert f"{name!r} {why}: kernels for 'cuda' were measured on 'bundle One sm_80', " in error
