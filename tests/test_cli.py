"""The command line: words, exit codes, one-line errors, JSON, no heavy imports for help."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qc import cli
from qc.console import commands
from qc.ir.errors import DataError
from qc.reporting.report import Report
from qc.tables import text_table
from qc.targets import load, missing_features

from .small_model import write_place

ROOT = Path(__file__).resolve().parent.parent
START = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import conftest
from qc.cli import main
sys.exit(main(sys.argv[1:]))
"""


def qc(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", START, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=600, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("cli"), 8, 12)


@pytest.fixture(scope="module")
def compiled(place: Path) -> "subprocess.CompletedProcess[str]":
    return qc(
        "compile", "m.onnx", "-o", "out", "--calib", "calib.npz", "--eval", "eval.npz",
        "--max-drop", 50, "--json", "c.json", cwd=place,
    )  # fmt: skip


def test_compile_prints_the_ledger_and_writes_json(
    compiled: "subprocess.CompletedProcess[str]", place: Path
) -> None:
    assert compiled.returncode == 0, compiled.stderr
    assert "fold-integers" in compiled.stdout
    found = json.loads((place / "c.json").read_text())
    keys = {"artifact", "target", "recipe", "seconds", "parameters", "macs", "bytes", "ledger"}
    assert keys <= found.keys()
    row = {"pass", "kind", "seconds", "rewrites", "parameters", "macs", "bytes", "sqnr_db"}
    assert all(row <= r.keys() for r in found["ledger"])
    assert found["artifact"] == "out"


def test_run_equals_its_reference(
    compiled: "subprocess.CompletedProcess[str]", place: Path
) -> None:
    first = qc("run", "out", "--inputs", "eval.npz", "-o", "a.npz", cwd=place)
    second = qc("run", "out", "--inputs", "eval.npz", "-o", "b.npz", "--reference", cwd=place)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "0 of 48 values differ" in second.stdout
    with np.load(place / "a.npz") as a, np.load(place / "b.npz") as b:
        assert a["y"].shape == (12, 4)
        assert np.array_equal(a["y"], b["y"])


def test_amx_elsewhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Checked when it is compiled, run and timed in the emulator, and never tuned by it."""
    from qc.backends.codegen import tile_registers

    target = load("x86-amx")
    if not target.emulated:
        pytest.skip(f"runs here, or lacks more than tiles: {missing_features(target)}")
    write_place(tmp_path, 8, 4, channels=64)
    model, out, data = (tmp_path / name for name in ("m.onnx", "out", "calib.npz"))
    told = ["--calib", str(data), "--target", "x86-amx", "--recipe", "int8"]
    found = []
    for words in (
        ["compile", str(model), "-o", str(out), *told],
        ["run", str(out), "--inputs", str(data), "-o", str(tmp_path / "y.npz"), "--reference"],
        ["bench", str(out)],
        ["targets"],
    ):
        before = tile_registers.counts()["tdp"]
        assert cli.main(words) == 0
        found.append((capfd.readouterr().out, tile_registers.counts()["tdp"] > before))
    (compiling, checked), (running, ran), (timing, timed), (listing, _) = found
    assert (checked, ran, timed) == (True, True, True)
    assert "code on 1 sample: 0 of 4 values differ from the reference" in compiling
    assert "This cpu lacks AMX's tiles: code was checked on emulated ones" in compiling
    assert "compiled code: 0 of 32 values differ" in running
    assert "in an emulator of AMX: times of an emulator, not of a device" in timing
    assert "this machine lacks amx-int8, amx-tile and emulates them" in listing
    assert cli.main(["tune", str(out), "--target", "x86-amx", "--seconds", "1"]) == 2
    assert "cannot be timed here: this machine lacks amx-int8" in capfd.readouterr().err


def test_eval_bench_inspect_explain(
    compiled: "subprocess.CompletedProcess[str]", place: Path
) -> None:
    done = qc("eval", "out", "--data", "eval.npz", "--json", "-", cwd=place)
    assert json.loads(done.stdout).keys() == {"metric", "value", "samples"}
    done = qc("bench", "out", "--json", "-", cwd=place)
    found = json.loads(done.stdout)
    assert found["artifact_ms"] > 0
    assert (found["threads"], found["peers"]) == (1, {})
    done = qc("inspect", "out", cwd=place)
    assert "QConv" in done.stdout
    done = qc("explain", "out", cwd=place)
    assert "conv" in done.stdout
    assert "layers in integers" in done.stdout


def test_a_missed_budget_is_exit_code_1() -> None:
    report = Report("out", "m", "host", "int8")
    report.evaluation = {"metric": "top1", "drop": 2.0, "max_drop": 1.0}
    assert commands._judged(report) == 1
    report.evaluation["max_drop"] = 2.0
    assert commands._judged(report) == 0
    report.evaluation = None
    assert commands._judged(report) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compile", "no.onnx", "-o", "o"), "'no.onnx' does not exist"),
        (("compile", "m.onnx", "-o", "o", "--calib", "no.npz"), "'no.npz' does not exist"),
        (("compile", "m.onnx", "-o", "o", "--target", "x68"), "did you mean 'x86'"),
        (("compile", "m.onnx", "-o", "o", "--recipe", "it8"), "did you mean 'int8'"),
        (("compile", "m.onnx", "-o", "o", "--input-shape", "x"), "is not NAME=1,3,224,224"),
        (("compile", "m.onnx", "-o", "o", "--set", "quantize"), "is not PASS.OPTION=VALUE"),
        (("compile", "junk.onnx", "-o", "o"), "junk.onnx"),
        (("compile", "m.onnx", "-o", "m.onnx"), "m.onnx"),
        (("compile", "m.onnx", "-o", "m.onnx/o"), "m.onnx"),
        (("compile", "m.onnx"), "required: -o/--output"),
        (("compil",), "invalid choice: 'compil'"),
        (("run", "o", "--inputs", "eval.npz"), "no artifact"),
        (("eval", "m.onnx", "--data", "calib.npz"), "no array 'labels'"),
        (("eval", "m.onnx", "--data", "eval.npz", "--metric", "bleu"), "invalid choice: 'bleu'"),
        (("explain", "."), "report.json"),
        (("inspect", "."), "manifest.json"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    place: Path, arguments: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    (place / "junk.onnx").write_bytes(b"this is no model")
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = int(str(error.code))
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("qc: error: ")]
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert not (place / "o").exists()


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "do_targets", stop)
    assert cli.main(["targets"]) == 130


def test_our_own_bugs_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(commands, "do_targets", fail)
    assert cli.main(["targets"]) == 1
    assert "internal error: ZeroDivisionError: oops" in capsys.readouterr().err
    assert cli.main(["targets", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = START.replace("sys.exit(main(sys.argv[1:]))", """
try:
    main(["--help"])
except SystemExit:
    pass
print([m for m in ("numpy", "onnx", "onnxruntime", "tvm", "rich", "torch") if m in sys.modules])
""")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for word in ("compile", "run", "eval", "bench", "inspect", "explain", "targets", "doctor"):
        assert word in done.stdout


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    words = {"targets": "x86-amx", "recipes": "int8-dynamic", "passes": "calibrate"}
    for name, word in words.items():
        assert cli.main([name]) == 0
        assert word in capsys.readouterr().out


def test_words_with_values() -> None:
    assert commands._shape("a=b=1,2") == ("a=b", (1, 2))
    assert commands._shape("s=") == ("s", ())
    assert commands._option("a.b=c=d") == ("a.b", "c=d")
    with pytest.raises(DataError):
        commands._shape("x=1,b")


def test_tables_align() -> None:
    text = text_table(["name", "n"], [["a", 1], ["long", None]])
    assert text.splitlines() == ["name  n", "----  -", "a     1", "long  -"]
