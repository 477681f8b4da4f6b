"""The database survives what happens to files; keys hold what a time depends on, and no more."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from workloads import SETTING, pointwise

from qc.backends.codegen.kernels import (
    DepthwiseWorkload,
    Epilogue,
    FloatEpilogue,
    Residual,
    View,
)
from qc.backends.codegen.template import by_estimate, candidates
from qc.backends.codegen.tuning.records import (
    Database,
    Decision,
    Record,
    describe,
    fastest,
)
from qc.ir.errors import BackendError

AVX2 = frozenset(SETTING.features)


def record(number: int, result: float | str, measurer: str = "here", final: bool = False) -> Record:
    """A record of the ``number``-th kernel of a workload."""
    kernel = candidates(pointwise(), AVX2)[number]
    return Record.of(SETTING, measurer, kernel, result, final)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "db.jsonl"
    written = [record(0, 2e-6), record(1, "died of signal 4"), record(2, 1e-6, final=True)]
    Database.open(path).add(written)
    again = Database.open(path)
    assert again.records == {written[0].workload: written}
    assert again.skipped == 0


def test_lines_that_are_no_records_are_skipped_counted_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "db.jsonl"
    good = record(0, 1e-6)
    table = json.loads(good.line())
    foreign = [
        "not json", '"text"', "[1]", "{}", json.dumps({"some": "other tool"}),
        json.dumps(table | {"qc": 99}), json.dumps(table | {"seconds": -1}),
        json.dumps(table | {"setting": {}}), json.dumps(table | {"knobs": 3}),
        json.dumps({k: v for k, v in table.items() if k != "knobs"}), "\x00\x01",
    ]  # fmt: skip
    text = "\n".join([*foreign, good.line().strip(), "", "  "]) + "\n"
    path.write_bytes(text.encode() + b"\xff\xfe\n")
    database = Database.open(path)
    assert database.skipped == len(foreign) + 1
    assert database.best(SETTING, pointwise())[0] == candidates(pointwise(), AVX2)[0]
    database.add([record(1, 5e-7)])
    assert path.read_bytes().startswith(text.encode())


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "db.jsonl"
    Database.open(path).add([record(0, 1e-6), record(1, 2e-6)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    Database.open(path).add([record(2, 3e-6)])
    again = Database.open(path)
    assert again.skipped == 1
    assert [r.seconds for r in again.records[describe(pointwise())]] == [1e-6, 3e-6]


def test_two_writers_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    path, each = tmp_path / "db.jsonl", 200
    tests = Path(__file__).resolve().parents[3]
    code = (
        f"import sys; sys.path[:0] = [{str(tests)!r}, {str(Path(__file__).parent)!r}]\n"
        "sys.modules['torch'] = None\n"  # TVM would import it, which takes seconds
        "import conftest, test_records as t\n"
        "from pathlib import Path\n"
        f"database = t.Database.open(Path({str(path)!r}))\n"
        f"for i in range({each}): database.add([t.record(i % 4, 1e-6)])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [w.wait() for w in writers] == [0, 0]
    database = Database.open(path)
    assert database.skipped == 0
    assert len(database.records[describe(pointwise())]) == 2 * each


def test_the_best_is_the_fastest_of_the_last_times() -> None:
    database = Database()
    database.add([record(0, 3e-6), record(1, 1e-6), record(2, 2e-6), record(3, "broke")])
    assert database.best(SETTING, pointwise())[0] == candidates(pointwise(), AVX2)[1]
    database.add([record(1, 5e-6)])
    assert database.best(SETTING, pointwise())[0] == candidates(pointwise(), AVX2)[2]
    database.add([record(2, "broke")])
    assert database.best(SETTING, pointwise())[0] == candidates(pointwise(), AVX2)[0]


def test_final_times_decide_over_lucky_ones() -> None:
    database = Database()
    database.add([record(0, 1e-9), record(1, 2e-6), record(2, 3e-6)])
    database.add([record(1, 2.5e-6, final=True), record(2, 2.4e-6, final=True)])
    assert database.best(SETTING, pointwise())[0] == candidates(pointwise(), AVX2)[2]


def test_times_of_two_measurers_are_not_compared() -> None:
    database = Database()
    database.add([record(0, 1e-6, "a"), record(1, 2e-6, "a")])
    database.add([record(1, 8e-6, "b"), record(2, 9e-6, "b")])
    kernels = candidates(pointwise(), AVX2)
    assert database.best(SETTING, pointwise(), "a")[0] == kernels[0]
    assert database.best(SETTING, pointwise(), "b")[0] == kernels[1]
    assert database.best(SETTING, pointwise())[0] == kernels[1], "the last one to measure"
    assert database.best(SETTING, pointwise(), "unknown")[0] == kernels[1]
    database.add([record(3, "broke", "c")])
    assert database.best(SETTING, pointwise(), "c")[0] == kernels[1], "c knows no time"


def test_other_settings_and_kernels_that_are_gone_do_not_count() -> None:
    database = Database()
    kernel = candidates(pointwise(), AVX2)[0]
    for other in ({"cpu": "x86_64-linux-gnu znver9"}, {"templates": -1}, {"tvm": "0.1"}):
        database.add([Record.of(replace(SETTING, **other), "here", kernel, 1e-6)])
    gone = replace(record(0, 1e-6), knobs=(("pixels", 99), ("vectors", 1)))
    database.add([gone, replace(gone, template="gone")])
    assert database.best(SETTING, pointwise()) == (None, "")
    assert fastest({}) is None


def test_whose_kernels_are_gone_leaves_the_word_to_who_measured_before() -> None:
    database = Database()
    gone = replace(record(0, 1e-9, "c"), knobs=(("pixels", 99), ("vectors", 1)))
    database.add([record(2, 1e-6, "a"), record(1, 2e-6, "b"), gone, record(0, "broke", "d")])
    kernels = candidates(pointwise(), AVX2)
    assert database.best(SETTING, pointwise()) == (kernels[1], "b")
    assert database.best(SETTING, pointwise(), "c") == (kernels[1], "b")
    assert database.best(SETTING, pointwise(), "a") == (kernels[2], "a")


def test_a_workload_is_its_shapes_not_its_numbers() -> None:
    workload = pointwise()
    residual = View.dense(7, 8, 64, "uint8")
    plain = replace(workload, epilogue=Epilogue("uint8", 3, 5, 250))
    assert describe(plain) == describe(workload)
    summed = [
        replace(workload, epilogue=Epilogue("uint8", residual=r), residual=residual)
        for r in (Residual(3, 4, 5), Residual(6, 7, 8))
    ]
    assert describe(summed[0]) == describe(summed[1])
    different = [
        workload, summed[0], replace(workload, epilogue=Epilogue("uint8", table=True)),
        replace(workload, epilogue=Epilogue("float32")), replace(workload, strides=(2, 2)),
        replace(workload, epilogue=FloatEpilogue()), replace(workload, kernel=(1, 3)),
        replace(workload, dilations=(2, 1)), replace(workload, y=replace(workload.y, channels=48)),
        replace(workload, x=replace(workload.x, row_stride=640)),
        DepthwiseWorkload(**vars(workload)), replace(workload, visits=(16, 20)),
        replace(workload, visits=(24, 20)), replace(workload, visits=(25, 20)),
    ]  # fmt: skip
    assert len({describe(w) for w in different}) == len(different)


def test_visits_by_quarters_serve_where_they_tell_the_half(tmp_path: Path) -> None:
    """Lines of old count the nearest quarters of two depths, today's the halves of the first."""
    path = tmp_path / "db"
    for visits in range(65):
        workload = replace(pointwise(), visits=(visits, visits + 3))
        now = Record.of(SETTING, "here", by_estimate(workload, AVX2), 1e-6)
        table = json.loads(now.line())
        table["workload"]["visits"] = [round(visits / 4), round((visits + 3) / 4)]
        path.write_text(json.dumps(table) + "\n")
        database = Database.open(path)
        assert (database.records, database.skipped) in [({now.workload: [now]}, 0), ({}, 1)]
        assert database.skipped == (round(visits / 4) % 2 == 0)


def test_candidates_begin_with_the_default_and_differ() -> None:
    for features in (AVX2, AVX2 | {"avx512f", "avx512vnni", "amx-int8"}, frozenset({"neon"})):
        found = candidates(pointwise(), features)
        assert found[0] == by_estimate(pointwise(), features)
        assert len(set(found)) == len(found) > 1
        costs = [k.cost for k in found[1:]]
        assert costs == sorted(costs)
    amx = AVX2 | {"avx512f", "avx512vnni", "amx-int8"}
    assert {k.name for k in candidates(pointwise(), amx)} == {"amx", "vnni"}


def test_a_database_that_cannot_be_read_or_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="database"):
        Database.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"database .*File exists"):
        Database.open(tmp_path / "file" / "db.jsonl").add([record(0, 1e-6)])
    with pytest.raises(BackendError, match="No space left"):
        Database(Path("/dev/full")).add([record(0, 1e-6)])


def test_decisions_are_remembered_beside_records(tmp_path: Path) -> None:
    path = tmp_path / "db.jsonl"
    database = Database.open(path)
    database.add([record(0, 1e-6)])
    database.decide(Decision(SETTING, "here", "net", (("conv", "slow"),)))
    database.decide(Decision(SETTING, "there", "net", ()))
    database.decide(Decision(replace(SETTING, tvm="0.1"), "here", "other", ()))
    again = Database.open(path)
    assert again.skipped == 0
    assert len(again.records) == 1
    assert again.decisions == database.decisions
    assert again.decision(SETTING, "net", "here") == {"conv": "slow"}
    assert again.decision(SETTING, "net", "somebody") == {}, "the last one's"
    assert again.decision(SETTING, "other", "here") is None
    with path.open("a") as file:
        file.write('{"qc": 1, "floats": {}}\n{"floats": 3}\n')
    assert Database.open(path).skipped == 2
