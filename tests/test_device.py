"""Devices: run, bench and tune there; kernels that crash or hang; servers that vanish."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import three_convolutions

pytest.importorskip("tvm")

from qc import Artifact, api, cli
from qc.backends.codegen import device_server
from qc.backends.codegen.address import Address
from qc.backends.codegen.pool import Pool
from qc.backends.codegen.remote import Device
from qc.backends.codegen.tuning.devices import devices
from qc.backends.codegen.tuning.trial import Operand, Trial
from qc.ir.errors import BackendError, DataError
from qc.targets import load

from .searches import counting, searching, times_measured
from .servers import Server, free_port, serving, tracking
from .small_model import write_data, write_model

HOST = load("host")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    write_model(folder / "m.onnx")
    write_data(folder / "calib.npz", 8)
    artifact = api.compile(folder / "m.onnx", calibration=folder / "calib.npz")
    artifact.save(folder / "out")
    net = three_convolutions()
    api.compile(net.graph, calibration=net.feeds()).save(folder / "long")
    return folder


@pytest.fixture(scope="module")
def device(place: Path) -> Iterator[Server]:
    with serving(place) as server:
        yield server


def trial(name: str, body: str, folder: Path) -> Trial:
    """A kernel written in C."""
    source = folder / f"{name}.c"
    source.write_text(f"void {name}(char *x, char *w, char *y, int lo, int hi) {{ {body} }}\n")
    subprocess.run(["cc", "-O1", "-fPIC", "-c", source.name], cwd=folder, check=True)
    operand = Operand(64, False)
    return Trial((folder / f"{name}.o").read_bytes(), 3, (operand, operand, operand))


def test_a_device_gives_the_values_of_this_machine(device: Server, place: Path) -> None:
    rng = np.random.default_rng(0)
    here, there = Artifact.load(place / "out"), Artifact.load(place / "out", device=device.address)
    for _ in range(3):
        feed = {"x": rng.standard_normal((1, 2, 8, 8)).astype(np.float32)}
        np.testing.assert_array_equal(here.run(feed)["y"], there.run(feed)["y"])


def test_run_and_bench_on_a_device(
    device: Server, place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    words = ["--device", device.address]
    assert cli.main(["run", "out", "--inputs", "calib.npz", "--reference", *words]) == 0
    assert "compiled code: 0 of 32 values differ" in capsys.readouterr().out
    for threads in ("1", "2"):
        assert cli.main(["bench", "out", "--threads", threads, "--json", "b.json", *words]) == 0
        found = json.loads((place / "b.json").read_text())
        assert found["device"] == device.address
        assert found["threads"] == int(threads)
        assert 0 < found["artifact_ms"] < 100
        assert found["peers"] == {}
    assert cli.main(["bench", "out", "--against", "onnxruntime", *words]) == 2
    assert "cannot be compared" in capsys.readouterr().err


def test_a_model_is_tuned_on_a_device(
    device: Server, place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    words = ["tune", "out", "--device", device.address, "--db", "rpc.jsonl", "--seconds", "100"]
    assert cli.main(words) == 0
    assert "on rpc x86_64" in capsys.readouterr().out
    records = [json.loads(line) for line in (place / "rpc.jsonl").read_text().splitlines()]
    assert all(r["measurer"].startswith("rpc ") and r["seconds"] > 0 for r in records)
    words = ["compile", "m.onnx", "--calib", "calib.npz", "-o", "tuned", "--db", "rpc.jsonl"]
    assert cli.main(words) == 0
    assert "2 of 2 workloads as measured" in capsys.readouterr().out


def test_kernels_that_crash_or_hang_cost_themselves_alone(tmp_path: Path) -> None:
    bodies = {
        "first": "y[0] = x[0] + w[0];",
        "deadly": "*(volatile int *)8 = 1;",
        "hangs": "for (volatile int i = 0; ; i++);",
        "last": "for (volatile long i = 0; i < 20000; i++);",
    }
    trials = {name: trial(name, body, tmp_path) for name, body in bodies.items()}
    with serving(tmp_path, "--session-timeout", 3) as server:
        with devices(HOST, Address.parse(server.address)) as there:
            found = there.measure([trials])[0]
        assert "starting again" in server.log.read_text()
    assert isinstance(found["first"], float)
    assert isinstance(found["last"], float)
    assert found["last"] > 5 * found["first"]
    assert str(found["deadly"]).startswith("ended its session")
    assert str(found["hangs"]).startswith("ended its session")


@pytest.mark.slow
def test_a_server_killed_in_the_middle_ends_the_run_and_keeps_the_records(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "killed.jsonl"
    with serving(place) as server:
        process = searching(place / "long", path, "--device", server.address)
        server.kill()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2, errors
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"qc: error: device {server.address} is lost: ")
        assert "the records so far are kept" in last
        before = path.read_text().splitlines()
        assert before
        assert all(json.loads(line)["seconds"] for line in before), "no kernel is blamed"
        server.start("qc: serving")
        job = api.Job(place / "long", database=path, where=api.Where(server.address))
        found = api.tune(job, counting(monkeypatch, 4))
    workloads = found["workloads"]
    assert isinstance(workloads, list)
    assert all(w["failed"] == 0 for w in workloads)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) > len(before)
    assert max(times_measured(records).values()) == 1, "what was known is not repeated"


@pytest.mark.slow
def test_a_fleet_behind_a_tracker_survives_the_loss_of_a_board(place: Path) -> None:
    path = place / "fleet.jsonl"
    with tracking(place) as tracker:
        where = ("--tracker", tracker.address, "--key", "board")
        with serving(place, *where) as one, serving(place, *where):
            target, address = HOST, Address.parse(tracker.address, "board")
            with devices(target, address) as there:
                assert there.width == 2
                assert there.name == "rpc board"
            process = searching(place / "long", path, *where, steps=6)
            one.kill()
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(r["seconds"] is not None for r in records) > 20
    assert sum(r["seconds"] is None for r in records) <= 1


def test_what_is_no_device_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for device, message in (
        ("127.0.0.1:1", "Connection refused"),
        ("nowhere", "is not HOST:PORT"),
        ("localhost:http", "is not HOST:PORT"),
        ("no.such.host.invalid:9190", "device no.such.host.invalid:9190: "),
    ):
        for words in (["bench", "out"], ["tune", "out", "--db", "no.jsonl"]):
            assert cli.main([*words, "--device", device]) == 2
            errors = capsys.readouterr().err
            assert message in errors, errors
    assert cli.main(["tune", "out", "--tracker", "localhost:1"]) == 2
    assert "--key" in capsys.readouterr().err
    words = ["tune", "out", "--tracker", "localhost:1", "--key", "k", "--device", "localhost:1"]
    assert cli.main(words) == 2
    assert "not both" in capsys.readouterr().err
    assert not (place / "no.jsonl").exists()


class Told(Device):
    """A device that says of itself what a test wants."""

    def __init__(self, **facts: object) -> None:
        self.address = Address("board", 9190)
        self._facts = {"machine": "x86_64", "processor": "P", "flags": "avx2", "tvm": "1"} | facts

    def __call__(self, job: object) -> object:
        return self._facts


def test_devices_of_another_kind_are_refused() -> None:
    assert Told().check("x86_64-linux-gnu", frozenset({"avx2"}), "1") == "x86_64 P"
    refused = [
        (Told(machine="aarch64"), "device board:9190 is aarch64; the code is for x86_64"),
        (Told(flags="sse2"), "lacks avx2, which the code needs"),
        (Told(tvm="2"), "has TVM 2, this machine 1"),
    ]
    for told, message in refused:
        with pytest.raises(BackendError, match=message):
            told.check("x86_64-linux-gnu", frozenset({"avx2"}), "1")
    board = Told(machine="aarch64", flags="asimd asimddp")
    assert board.check("aarch64-linux-gnu", frozenset({"neon", "dotprod"}), "1")
    old = Told(machine="armv7l", flags="neon")
    assert old.check("armv7-linux-gnueabihf", frozenset({"neon"}), "1")


def test_addresses() -> None:
    assert Address.parse("pi:9190") == Address("pi", 9190)
    assert str(Address.parse("[::1]:80", "rpi")) == "rpi of tracker ::1:80"
    for text in ("pi", ":9190", "pi:", "pi:0", "pi:70000", "pi:-1", ""):
        with pytest.raises(DataError, match="is not HOST:PORT"):
            Address.parse(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], device_server.DANGER),
        (["--host", "192.168.0.7", "--port", "9000"], "ssh -L 9000:localhost:9000"),
        (["--port", "0"], "--port 0"),
        (["--port", "99999"], "--port 99999"),
        (["--session-timeout", "0"], "must be above zero"),
        (["--tracker", "localhost:9000"], "--tracker needs --key"),
        (["--tracker", "localhost", "--key", "k"], "is not HOST:PORT"),
    ],
)
def test_serving_refuses_what_is_dangerous_or_wrong(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["device", "serve", *words]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_the_danger_can_be_accepted() -> None:
    words = ["--host", "0.0.0.0", "--inner", device_server.DANGER]
    assert device_server.refusal(device_server.parser().parse_args(words)) == ""


def test_a_port_in_use_is_one_line(device: Server, capsys: pytest.CaptureFixture[str]) -> None:
    args = argparse.Namespace(**vars(device_server.parser().parse_args([])))
    args.port = device.port
    assert "cannot listen on 127.0.0.1" in device_server.refusal(args)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_serving_ends_with_its_sessions(tmp_path: Path, place: Path, how: signal.Signals) -> None:
    """However the server is ended while somebody is connected, its port is free again."""
    with serving(tmp_path) as server:
        artifact = Artifact.load(place / "out", device=server.address)
        artifact.run({"x": np.zeros((1, 2, 8, 8), np.float32)})
        os.kill(server.process.pid, how)
        assert server.process.wait(timeout=20) == (-9 if how is signal.SIGKILL else 130)
        deadline = time.monotonic() + 20
        while "--port\0" + str(server.port) in commands() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "--port\0" + str(server.port) not in commands()
        while device_server._bound("127.0.0.1", server.port) and time.monotonic() < deadline:
            time.sleep(0.1)
        server.start("qc: serving")


def commands() -> str:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


def test_a_server_that_cannot_start_gives_up(tmp_path: Path) -> None:
    (tmp_path / "tvm_ffi.py").write_text("raise ImportError('no TVM here')")
    done = subprocess.run(
        [sys.executable, device_server.__file__, "--port", str(free_port())],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("qc: error: the server does not start")


def test_callers_in_several_threads_get_their_own_answers(device: Server, place: Path) -> None:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, 2, 8, 8)).astype(np.float32)} for _ in range(24)]
    there, here = Artifact.load(place / "out", device=device.address), Artifact.load(place / "out")
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(there.run, feeds))
    for feed, outputs in zip(feeds, got, strict=True):
        np.testing.assert_array_equal(outputs["y"], here.run(feed)["y"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "_ready", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            there.run(feeds[0])
    np.testing.assert_array_equal(there.run(feeds[1])["y"], here.run(feeds[1])["y"])


def test_a_server_that_starts_again_between_two_runs_is_waited_for(
    tmp_path: Path, place: Path
) -> None:
    with serving(tmp_path) as server:
        artifact = Artifact.load(place / "out", device=server.address)
        feed = {"x": np.ones((1, 2, 8, 8), np.float32)}
        before = artifact.run(feed)["y"]
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        (child,) = children.read_text().split()
        os.killpg(int(child), signal.SIGKILL)
        np.testing.assert_array_equal(artifact.run(feed)["y"], before)
        assert "starting again" in server.log.read_text()


def test_a_device_without_tuning_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert cli.main(["compile", "m.onnx", "-o", "o", "--device", "localhost:9190"]) == 2
    assert "give --tune SECONDS" in capsys.readouterr().err
