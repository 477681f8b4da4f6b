"""Bundles: built here, measured by a shell script elsewhere, imported here."""

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from qc import api, cli

from .small_model import write_data, write_model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_model(folder / "m.onnx")
    write_data(folder / "calib.npz", 8)
    job = api.Job(folder / "m.onnx", calibration=folder / "calib.npz")
    found = api.tune_bundle(job, folder / "b.tar")
    assert found["workloads"] == 2
    assert found["failed"] == found["left"] == 0
    (folder / "device").mkdir()
    subprocess.run(["tar", "xf", "../b.tar"], cwd=folder / "device", check=True)
    return folder


@pytest.fixture(scope="module")
def results(place: Path) -> Path:
    """What the script writes, run as on a device: in another folder, by sh."""
    device = place / "device"
    done = subprocess.run(
        ["sh", "qc-bundle/run.sh"], cwd=device, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "group 2 of 2" in done.stderr
    assert sorted(p.name for p in device.iterdir()) == ["qc-bundle", "results.json"]
    return device / "results.json"


def changed(results: Path, name: str, **changes: object) -> Path:
    """The results with some of its top-level or bundle's entries replaced."""
    table = json.loads(results.read_text())
    for key, value in changes.items():
        (table["bundle"] if key in table["bundle"] else table)[key] = value
    path = results.with_name(name)
    path.write_text(json.dumps(table))
    return path


def test_the_programs_need_no_libraries(place: Path) -> None:
    program = place / "device" / "qc-bundle" / "programs" / "000"
    assert b"/lib64/ld-linux" not in program.read_bytes()


def test_what_a_device_measured_is_what_a_compilation_takes(
    results: Path, place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    assert cli.main(["tune", "--import", str(results), "--db", "db.jsonl"]) == 0
    assert "(0 failed, 0 missing)" in capsys.readouterr().out
    records = [json.loads(line) for line in (place / "db.jsonl").read_text().splitlines()]
    programs = json.loads(results.read_text())["bundle"]["programs"]
    assert len(records) == sum(map(len, programs.values())) > 4
    assert all(r["seconds"] > 0 and r["final"] for r in records)
    assert len({r["measurer"] for r in records}) == 1
    assert records[0]["measurer"].startswith("bundle ")
    words = ["compile", "m.onnx", "--calib", "calib.npz", "-o", "out", "--db", "db.jsonl"]
    assert cli.main(words) == 0
    assert "2 of 2 workloads as measured" in capsys.readouterr().out


def test_kernels_that_failed_there_are_remembered(results: Path, place: Path) -> None:
    runs = json.loads(results.read_text())["runs"]
    runs["000"] = "! 1 died of signal 4;0 100.5;2 90;0 101.5;2 1"  # cut by a kernel that died
    path = changed(results, "failed.json", runs=runs)
    found = api.import_results(path, place / "failed.jsonl")
    records = [json.loads(line) for line in (place / "failed.jsonl").read_text().splitlines()]
    assert [r["error"] for r in records[:4]] == ["", "died of signal 4", "", "was not timed"]
    assert records[0]["seconds"] == pytest.approx(100.75e-9)
    assert found["failed"] == sum(1 for r in records if r["error"]) > 1


def test_a_run_that_was_cut_short_gives_what_it_has(results: Path, place: Path) -> None:
    runs = json.loads(results.read_text())["runs"]
    found = api.import_results(
        changed(results, "short.json", runs={"001": runs["001"]}), place / "short.jsonl"
    )
    assert int(str(found["missing"])) > 0
    assert int(str(found["records"])) > 0


def test_time_is_limited(place: Path) -> None:
    job = api.Job(place / "m.onnx", calibration=place / "calib.npz")
    found = api.tune_bundle(job, place / "none.tar", seconds=1e-9)
    assert found == {"workloads": 0, "kernels": 0, "failed": 0, "left": 2}


def test_bad_results_are_one_line_and_leave_the_database_alone(
    results: Path, place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    table = json.loads(results.read_text())
    setting, runs = table["bundle"]["setting"], table["runs"]
    (place / "junk.json").write_text("junk")
    (place / "empty.json").write_text("{}")
    (place / "cut.json").write_text(results.read_text()[:-40])
    programs = {"000": [{"workload": {}, "template": "x"}], "001": []}
    bad = [
        (place / "nothing.json", "No such file"),
        (place / "junk.json", "cannot be read"),
        (place / "cut.json", "cannot be read"),
        (place / "empty.json", "are not of a bundle"),
        (changed(results, "a.json", setting=setting | {"tvm": "0.1"}), "are of another build"),
        (changed(results, "b.json", setting=setting | {"templates": 0}), "make the bundle again"),
        (changed(results, "c.json", setting=setting | {"more": 0}), "are not of a bundle"),
        (changed(results, "d.json", runs=runs | {"000": "segmentation fault;"}), "are damaged"),
        (changed(results, "e.json", runs=runs | {"zzz": "0 1;"}), "no program 'zzz'"),
        (changed(results, "f.json", programs=programs), "are damaged"),
        (changed(results, "g.json", qc=7), "are not of a bundle"),
        (changed(results, "h.json", programs={"000": 5}), "are not of a bundle"),
        (changed(results, "i.json", programs={"000": [5]}), "are not of a bundle"),
        (changed(results, "j.json", programs=[]), "are not of a bundle"),
    ]
    for path, message in bad:
        assert cli.main(["tune", "--import", str(path), "--db", "bad.jsonl"]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1
        assert message in errors[0], errors[0]
    assert not (place / "bad.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune"], "give the MODEL"),
        (["tune", "m.onnx", "--import", "r.json"], "takes no model"),
        (["tune", "m.onnx", "--bundle", "b.tar", "--device", "pi:9190"], "not both"),
        (["tune", "m.onnx", "--bundle", "no/such/folder/b.tar"], "cannot write"),
        (["tune", "m.onnx", "--bundle", "."], "cannot write"),
    ],
)
def test_bad_usage(
    place: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
