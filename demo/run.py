"""The main job on a small network: compile it to integers for this machine, judge it, time it.

Every step is a `qc` command, shown before it runs, so that it can be repeated by hand.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL, CALIB, EVAL = "demo/digits.onnx", "demo/calib.npz", "demo/eval.npz"
OUT, REPORTS = "demo-out/digits", "demo-out"


def qc(*arguments: str) -> None:
    """Show and run one command; end with its exit code if it fails."""
    print(f"\n$ qc {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "qc.cli", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def result(name: str) -> dict:
    """Return what a command wrote by `--json`."""
    return json.loads((ROOT / REPORTS / f"{name}.json").read_text())


def main() -> None:
    """Compile, evaluate float and int8, compare with the reference, time, sum up."""
    (ROOT / REPORTS).mkdir(exist_ok=True)
    json_of = {name: f"{REPORTS}/{name}.json" for name in ("compile", "float", "int8", "bench")}
    data = ["--calib", CALIB, "--eval", EVAL, "--max-drop", "1.0"]
    qc("compile", MODEL, *data, "--target", "host", "-o", OUT, "--json", json_of["compile"])
    qc("run", OUT, "--inputs", CALIB, "--reference")
    qc("eval", MODEL, "--data", EVAL, "--json", json_of["float"])
    qc("eval", OUT, "--data", EVAL, "--json", json_of["int8"])
    qc("bench", OUT, "--against", "onnxruntime", "--json", json_of["bench"])
    print(f"\n{summary()}")


def summary() -> str:
    """Return the figures beside each other."""
    compiled, bench = result("compile"), result("bench")
    real, int8, samples = result("float"), result("int8"), result("int8")["samples"]
    peers, ours = bench["peers"], bench["artifact_ms"]
    before = compiled["ledger"][0]["bytes"]
    lines = [
        f"{'':24}{'float':>12}{'int8':>12}",
        f"{f'{samples} test digits right':24}{real['value']:>12.2%}{int8['value']:>12.2%}",
        f"{'weights, kB':24}{before / 1e3:>12.1f}{compiled['bytes'] / 1e3:>12.1f}",
        f"{'qc, us':24}{'':>12}{1e3 * ours:>12.1f}",
        f"{'onnxruntime, us':24}{_us(peers, 'float'):>12}{_us(peers, 'int8'):>12}",
        "",
        f"latency: medians of interleaved runs, {bench['threads']} thread, batch 1",
        f"the report: {OUT}/report.html",
    ]
    return "\n".join(lines)


def _us(peers: dict, kind: str) -> str:
    milliseconds = peers.get(f"onnxruntime-{kind}")
    return "-" if milliseconds is None else f"{1e3 * milliseconds:.1f}"


if __name__ == "__main__":
    main()
