"""The timer times, survives kernels that die or hang, and blames the right one."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from workloads import pointwise

from qc.backends.codegen.kernels import FloatEpilogue, View
from qc.backends.codegen.pool import Pool
from qc.backends.codegen.template import by_estimate, candidates
from qc.backends.codegen.tuning.choices import Choices
from qc.backends.codegen.tuning.measurer import Local, Outcome, parse, time_all
from qc.backends.codegen.tuning.records import Database, Record, Setting, describe
from qc.backends.codegen.tuning.search import Tuner
from qc.backends.codegen.tuning.trial import Operand, Trial, make_trial, operands_of
from qc.progress import Silent
from qc.targets import load

HOST = load("host")


def test_the_output_of_the_timer_is_read() -> None:
    found = parse(["! 3 died of signal 4", "0 100", "1 7", "0 300", "0 200", "1 5"])
    assert found.seconds == {0: [1e-7, 3e-7, 2e-7], 1: [7e-9, 5e-9]}
    assert found.timing(0) == pytest.approx(1.5e-7)
    assert found.timing(2) == "was not timed"
    assert found.timing(3) == "died of signal 4"
    assert parse(["0 1"], "died").timing(1) == "died"
    for junk in (["x 1"], ["1"], ["! x died"], ["segmentation fault"]):
        with pytest.raises(ValueError):  # noqa: PT011
            parse(junk)


@pytest.mark.parametrize("deadly", [set(), {0}, {2}, {1, 3}, {0, 1, 2, 3}])
@pytest.mark.parametrize("late", [False, True])
def test_who_kills_the_timer_is_found_and_left_out(deadly: set[int], late: bool) -> None:
    """``late``: not in the first call of the kernel but in a later one."""
    runs = []

    def run(kernels: Sequence[int]) -> Outcome:
        runs.append(list(kernels))
        killer = next((k for k in kernels if k in deadly), None)
        death = "" if killer is None else "died of signal 4"
        return Outcome({k: [1e-6] for k in kernels}, {}, None if late else killer, death)

    found = time_all(range(4), run)
    assert found == {k: "died of signal 4" if k in deadly else 1e-6 for k in range(4)}
    assert len(runs) <= 6


def compiled_c(name: str, body: str, folder: Path) -> Trial:
    """A kernel written in C."""
    source = folder / f"{name}.c"
    source.write_text(f"void {name}(char *x, char *w, char *y, int lo, int hi) {{ {body} }}\n")
    subprocess.run(["cc", "-O1", "-c", source.name], cwd=folder, check=True)
    operands = (Operand(64, False), Operand(64, False), Operand(64, False))
    return Trial((folder / f"{name}.o").read_bytes(), 3, operands)


def test_kernels_that_die_or_hang_cost_themselves_alone(tmp_path: Path) -> None:
    bodies = {
        "fine": "y[0] = x[0] + w[0];",
        "deadly": "*(volatile int *)8 = 1;",
        "slow": "for (volatile long i = 0; i < 20000; i++);",
        "hangs": "for (volatile int i = 0; ; i++);",
        "late": "static int n; if (n++ > 40) *(volatile int *)8 = 1;",
    }
    trials = {name: compiled_c(name, body, tmp_path) for name, body in bodies.items()}
    found = Local(HOST, hang=1, limit=5.0).measure([trials])[0]
    assert found["deadly"] == "died of signal 11"
    assert found["hangs"] == "took more than 1 s"
    assert found["late"] == "died of signal 11"
    assert isinstance(found["fine"], float)
    assert isinstance(found["slow"], float)
    assert found["slow"] > 5 * found["fine"]


def test_operands_are_those_of_the_kernel() -> None:
    from qc.backends.codegen.kernels import ConvWorkload, Epilogue, Residual

    view = View.dense(4, 6, 32, "uint8")
    shape = ((1, 1), (1, 1), (1, 1))
    epilogue = Epilogue("uint8", residual=Residual(1, 2, 3), table=True)
    summed = ConvWorkload(view, view, *shape, epilogue, view)
    kernel = by_estimate(summed, frozenset({"avx2"}))
    found = [(o.bytes, o.real) for o in operands_of(kernel)]
    assert found == [
        (768, False), (2048, False), (128, False), (128, True), (768, False), (256, False),
        (768, False),
    ]  # fmt: skip
    real = View.dense(4, 6, 32, "float32")
    kernel = by_estimate(ConvWorkload(real, real, *shape, FloatEpilogue()), frozenset({"avx2"}))
    assert [(o.bytes, o.real) for o in operands_of(kernel)] == [
        (3072, True), (4096, True), (128, True), (3072, True),
    ]  # fmt: skip
    assert make_trial(kernel, (b"", 1), 1 << 15).copies == 4, "half of 32 KiB"
    assert make_trial(kernel, (b"", 1), 1 << 10).copies == 1


def test_weights_that_a_kernel_follows_are_there_when_it_is_timed(tmp_path: Path) -> None:
    body = "if (w[0] != 'k' || w[1] || w[299] != 'z') *(volatile int *)8 = 1;"
    plain = compiled_c("plain", body, tmp_path)
    content = b"k".ljust(299, b"\0") + b"z"
    operands = (plain.operands[0], Operand(300, False, content), plain.operands[2])
    code = compiled_c("filled", body, tmp_path).object
    trials = {"filled": Trial(code, 3, operands, copies=3), "plain": plain}
    found = Local(HOST).measure([trials])[0]
    assert isinstance(found["filled"], float)
    assert found["plain"] == "died of signal 11"


def test_a_kernel_may_take_a_single_operand(tmp_path: Path) -> None:
    (tmp_path / "fills.c").write_text("void fills(char *y, int lo, int hi) { y[lo] = 1; }\n")
    subprocess.run(["cc", "-O1", "-c", "fills.c"], cwd=tmp_path, check=True)
    trial = Trial((tmp_path / "fills.o").read_bytes(), 1, (Operand(64, None),))
    assert isinstance(Local(HOST).measure([{"fills": trial}])[0]["fills"], float)


def test_a_template_that_follows_its_weights_has_a_sample_of_them() -> None:
    workload = replace(pointwise(), visits=(20, 24))
    kernels = candidates(workload, frozenset({"avx2"}))
    for kernel in kernels:
        found = operands_of(kernel)[1]
        assert bool(found.content) == (kernel.name == "avx2-short")
        assert len(found.content) in (0, found.bytes)
    assert {k.name for k in kernels} == {"avx2", "avx2-short"}


@pytest.mark.skipif("avx2" not in HOST.features, reason="the kernels of this test are for AVX2")
def test_tuning_here_ends_with_records_that_a_compilation_takes(tmp_path: Path) -> None:
    path, workload = tmp_path / "db.jsonl", pointwise(pixels=3, channels=32)
    default = by_estimate(workload, HOST.features)
    measurer = Local(HOST)
    with Pool(1, 60.0) as pool:
        tuner = Tuner(HOST, measurer, Database.open(path), pool)
        tasks = tuner.tune({default: 1}, 120.0, Silent())
    assert not tasks[0].waiting
    assert set(tasks[0].seconds) == set(candidates(workload, HOST.features))
    assert all(1e-9 < s < 1e-2 for s in tasks[0].seconds.values())
    choices = Choices(HOST, Database.open(path), measurer.name)
    assert choices(workload, HOST.features) == tasks[0].best
    other = pointwise(pixels=4, channels=32)
    assert choices(other, HOST.features) == by_estimate(other, HOST.features)
    assert choices.asked == {describe(workload): measurer.name, describe(other): ""}


def test_choices_follow_the_database_only() -> None:
    workload = pointwise()
    wanted = candidates(workload, HOST.features)[-1]
    database = Database()
    database.add([Record.of(Setting.of(HOST), "elsewhere", wanted, 1e-6)])
    assert Choices(HOST, database)(workload, HOST.features) == wanted
