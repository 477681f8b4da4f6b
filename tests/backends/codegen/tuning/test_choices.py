"""Who decided about a workload, also where its layers are not decided alike."""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from workloads import SETTING, pointwise

from qc.backends.codegen.template import TemplateKernel, candidates
from qc.backends.codegen.tuning.choices import Choices
from qc.backends.codegen.tuning.records import Database, Record, describe
from qc.targets import load

AVX2 = frozenset(SETTING.features)
FEW, MANY = (replace(pointwise(196), visits=v) for v in ((17, 17), (24, 60)))


def of_few_alone() -> TemplateKernel:
    """One for visits that make deep groups worth while, as a search does not try it for more."""
    kernels = {k.knobs for k in candidates(MANY, AVX2)}
    return next(k for k in candidates(FEW, AVX2) if k.knobs not in kernels)


@pytest.mark.parametrize("order", [(FEW, MANY), (MANY, FEW)])
def test_layers_of_one_workload_that_are_decided_differently(order: tuple[object, ...]) -> None:
    assert describe(FEW) == describe(MANY)
    database = Database()
    database.add([Record.of(SETTING, "pi", of_few_alone(), 1e-6)])
    for measurer in ("pi", ""):
        choices = Choices(load("x86"), database, measurer)
        for workload in order:
            choices(workload, AVX2)
        assert choices.judges == {"pi": 1}
    kernel = next(k for k in candidates(MANY, AVX2) if k.name == "avx2")
    database.add([Record.of(SETTING, "other", kernel, 1e-6)])
    choices = Choices(load("x86"), database, "pi")
    for workload in order:
        choices(workload, AVX2)
    assert choices.judges == {"pi": 1}
