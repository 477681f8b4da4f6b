"""An emulated 64-bit ARM board: run, bench and tune there, with the server killed in the middle."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graphs import three_convolutions

pytest.importorskip("tvm")
pytest.importorskip("ziglang")

from qc import Artifact, api
from qc.ir.errors import BackendError

from .searches import counting, searching, times_measured
from .servers import Server, board_serving

pytestmark = pytest.mark.slow


def feeds() -> list[dict[str, np.ndarray]]:
    return three_convolutions().feeds(8)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with board_serving(tmp_path_factory.mktemp("board")) as server:
        yield server


@pytest.fixture(scope="module")
def place(board: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arm")
    artifact = api.compile(three_convolutions().graph, calibration=feeds(), target="arm")
    artifact.save(folder / "out")
    return folder


def test_the_board_gives_the_values_of_the_emulator(board: Server, place: Path) -> None:
    here, there = Artifact.load(place / "out"), Artifact.load(place / "out", device=board.address)
    assert here.emulator == "qemu-aarch64"
    for feed in feeds():
        expected, got = here.run(feed), there.run(feed)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
    del there  # a device serves one caller at a time
    found = api.bench(place / "out", device=board.address, seconds=0.1)
    assert float(str(found["artifact_ms"])) > 0


def test_code_for_another_machine_is_refused(board: Server, place: Path) -> None:
    api.compile_to_directory(
        api.Job(three_convolutions().graph, calibration=feeds()), place / "host"
    )
    with pytest.raises(BackendError, match=r"is aarch64; the code is for x86_64"):
        Artifact.load(place / "host", device=board.address)


def test_a_server_killed_in_the_middle_of_tuning(
    board: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends, the records so far are kept, a restart goes on."""
    path = place / "db.jsonl"
    process = searching(place / "out", path, "--device", board.address)
    board.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "is lost: " in errors.strip().splitlines()[-1]
    before = path.read_text().splitlines()
    assert before
    board.start("qc: serving")
    where = api.Where(board.address)
    seconds = counting(monkeypatch, 4)
    found = api.tune(api.Job(place / "out", database=path, where=where), seconds)
    workloads = found["workloads"]
    assert isinstance(workloads, list)
    assert all(w["failed"] == 0 for w in workloads)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [json.dumps(r, sort_keys=True) for r in records[: len(before)]] == before
    assert len(records) > len(before), "the restart goes on"
    assert max(times_measured(records).values()) == 1, "what was known is not repeated"
    assert {r["measurer"] for r in records} == {"rpc aarch64 0xd0b"}
    job = api.Job(three_convolutions().graph, "arm", calibration=feeds(), database=path)
    report = api.compile_to_directory(job, place / "tuned")
    assert report.tuning is not None
    assert report.tuning["recorded"] == report.tuning["workloads"] == 3
    assert report.check is not None
    assert report.check["differing"] == 0
