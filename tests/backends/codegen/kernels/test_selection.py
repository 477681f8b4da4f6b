"""The table of templates by cpu features."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.kernels import (
    ConvWorkload,
    DepthwiseWorkload,
    Epilogue,
    FloatEpilogue,
    View,
    default_knobs,
    templates,
    weighed,
)
from qc.backends.codegen.kernels.amx import Amx
from qc.backends.codegen.kernels.depthwise_columns import DepthwiseColumns
from qc.backends.codegen.kernels.neon import Neon
from qc.backends.codegen.kernels.neon_v7 import NeonV7
from qc.backends.codegen.kernels.smmla import Smmla
from qc.backends.codegen.kernels.x86 import X86

NEON = frozenset({"neon"})


def select(workload: ConvWorkload, features: frozenset[str]) -> Any:
    """The template that is taken without measuring."""
    return next(iter(templates(workload, features).values()))


AVX2 = frozenset({"avx2"})
VNNI = AVX2 | {"avx512f", "avx512vnni"}
AMX = VNNI | {"amx-int8", "avx512vbmi"}


def pointwise(pixels: int, epilogue: Epilogue | FloatEpilogue | None = None) -> ConvWorkload:
    """A matrix product with ``pixels`` rows."""
    epilogue = epilogue or Epilogue("uint8")
    dtype = "float32" if isinstance(epilogue, FloatEpilogue) else "uint8"
    x, y = View.dense(1, pixels, 64, dtype), View.dense(1, pixels, 64, dtype)
    return ConvWorkload(x, y, (1, 1), (1, 1), (1, 1), epilogue)


def test_amx_only_for_enough_pixels() -> None:
    assert isinstance(select(pointwise(196), AMX), Amx)
    assert select(pointwise(1), AMX).dot.isa.lanes == 16


def test_short_reductions_stay_with_vnni() -> None:
    x, y = View.dense(225, 225, 3, "uint8"), View.dense(112, 112, 32, "uint8")
    first = ConvWorkload(x, y, (3, 3), (2, 2), (1, 1), Epilogue("uint8"))
    assert select(first, AMX).dot.isa.lanes == 16


@pytest.mark.parametrize(
    ("features", "lanes", "weights"),
    [(VNNI, 16, "int8"), (AVX2 | {"avxvnni"}, 8, "int8"), (AVX2, 8, "int16")],
)
def test_register_templates(features: frozenset[str], lanes: int, weights: str) -> None:
    dot = select(pointwise(196), features).dot
    assert (dot.isa.lanes, dot.weights_dtype) == (lanes, weights)


def test_few_pixels_read_narrow_weights() -> None:
    assert [t.dot.weights_dtype for t in templates(pointwise(16), AVX2).values()] == [  # type: ignore[attr-defined]
        "int8", "int16",
    ]  # fmt: skip
    assert list(templates(pointwise(17), AVX2)) == ["avx2"]


def test_sums_of_16_bits_where_few_steps_are_visited_again() -> None:
    few, many = (replace(pointwise(196), visits=v) for v in ((17, 20), (34, 40)))
    assert list(templates(few, AVX2)) == ["avx2-short", "avx2"]
    assert list(templates(many, AVX2)) == ["avx2", "avx2-short"]
    assert "avx2-short" not in templates(replace(pointwise(16), visits=(17, 20)), AVX2)


def test_weights_are_looked_at_for_sums_of_16_bits_alone() -> None:
    weights = np.full((64, 64, 1, 1), 100, np.int8)
    assert min(weighed(pointwise(196), AVX2, weights).visits) > 32
    assert weighed(pointwise(196), AVX2, weights // 8).visits == (16, 16)
    assert weighed(pointwise(196), AVX2, 0 * weights).visits == (0, 0)
    for features in (VNNI, AMX, AVX2 | {"avxvnni"}, NEON, frozenset({"dp4a"})):
        assert weighed(pointwise(196), features, weights) == pointwise(196)
    few, real = pointwise(16), pointwise(196, FloatEpilogue())
    for workload in (few, real, DepthwiseWorkload(**vars(pointwise(196)))):
        assert weighed(workload, AVX2, weights) == workload


def test_depthwise() -> None:
    base = pointwise(196)
    workload = DepthwiseWorkload(*(getattr(base, field.name) for field in fields(base)))
    wide, narrow = select(workload, AMX), select(workload, AVX2)
    assert (wide.dots, wide.isa(16)) == (True, X86(16, vbmi=True))
    assert (narrow.dots, narrow.isa(8)) == (False, X86(8))
    assert isinstance(select(workload, NEON), DepthwiseColumns)
    assert select(workload, NEON | {"dotprod"}).shift == 128
    assert select(workload, NEON | {"dotprod", "i8mm"}).shift == 0


def test_arm() -> None:
    assert select(pointwise(196), NEON).dot.least == -127
    assert select(pointwise(196), NEON | {"dotprod"}).dot.shift == 128
    matrices = NEON | {"dotprod", "i8mm"}
    assert isinstance(select(pointwise(196), matrices), Smmla)
    assert list(templates(pointwise(196), matrices)) == ["smmla", "i8mm-16", "i8mm-4"]
    assert select(pointwise(1), matrices).dot.shift == 0, "one pixel has no partner"
    assert "smmla" not in templates(pointwise(1), matrices)
    assert select(pointwise(196), NEON).dot.size == 16
    x, y = View.dense(225, 225, 3, "uint8"), View.dense(112, 112, 32, "uint8")
    first = ConvWorkload(x, y, (3, 3), (2, 2), (1, 1), Epilogue("uint8"))
    assert select(first, NEON).dot.size == 4, "rows of 9 codes"
    assert isinstance(select(pointwise(196, FloatEpilogue()), NEON).dot.isa, Neon)


def test_weights_that_a_template_cannot_hold_are_refused() -> None:
    workload = pointwise(196)
    template = select(workload, NEON)
    weights = np.full((64, 64, 1, 1), -128, np.int8)
    with pytest.raises(ValueError, match="weights below -127"):
        template.pack(weights, workload, default_knobs(template, workload))


def test_float_lanes() -> None:
    workload = pointwise(196, FloatEpilogue())
    assert select(workload, VNNI).dot.isa.lanes == 16
    assert select(workload, AVX2).dot.isa.lanes == 8


def test_refuses_old_cpus() -> None:
    with pytest.raises(ValueError, match="avx2"):
        select(pointwise(196), frozenset({"sse4.2"}))


def test_32_bit_arm_has_templates_of_its_own() -> None:
    old = frozenset({"neon", "vfp4"})
    assert select(pointwise(196), old).dot.isa == NeonV7()
    assert select(pointwise(196, FloatEpilogue()), old).dot.isa == NeonV7()
    assert select(pointwise(196), NEON).dot.isa == Neon()
