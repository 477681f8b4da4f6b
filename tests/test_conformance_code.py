"""ONNX's test cases through compiled code: a sample of many operators, and the judge itself."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.test_case import TestCase

from qc import conformance_code
from qc.conformance_code import compile_cases, merged, prepare
from qc.frontends.conformance import CORRECT, UNSUPPORTED, WRONG, Case, Outcome, cases
from qc.ir.errors import BackendError, QcError
from qc.targets import load

SAMPLE = [
    "abs", "add_bcast", "and2d", "argmax_default_axis_example", "averagepool_2d_pads",
    "basic_conv_with_padding", "cast_DOUBLE_to_FLOAT", "clip", "concat_2d_axis_0",
    "depthtospace_example", "div_int32_trunc", "equal_bcast", "expand_dim_changed", "gather_0",
    "gemm_all_attributes", "group_normalization_epsilon", "gru_bidirectional", "if", "isnan",
    "layer_normalization_2d_axis1", "lstm_with_peepholes", "max_float64", "maxpool_2d_same_upper",
    "pow_types_int32_int32", "reduce_log_sum_exp_keepdims_random_expanded",
    "reduce_max_keepdims_example", "lstm_batchwise", "scan9_sum", "slice", "softmax_axis_1",
    "split_equal_parts_1d_opset18", "tanh", "tile", "where_example",
    "attention_causal_boolmask_nan_robustness",
]  # fmt: skip
"""Cases of many operators, and some that compiled code got wrong once."""

Arrays = list[np.ndarray]


def case(op: str, inputs: Arrays, *expected: object, **attributes: int) -> Case:
    """A case of one node, with a data set for each of the results that are expected."""
    results = [np.asarray(e, np.float32) for e in expected]
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    graph = helper.make_graph(
        [node], "g", [_info(n, a) for n, a in zip(names, inputs, strict=True)],
        [_info("y", results[0])],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    data = [(inputs, [r]) for r in results]
    return Case("node", TestCase("test_it", "it", None, None, made, data, "node", 1e-3, 1e-7))


def _info(name: str, array: np.ndarray) -> object:
    kind = TensorProto.INT64 if array.dtype.kind == "i" else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, array.shape)


PAIR = [np.array([-1, 2], np.float32), np.array([1, 1], np.float32)]
SHAPED = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([6])]
OWN = {
    "right": (case("Add", PAIR, [0, 3]), CORRECT),
    "wrong": (case("Add", PAIR, [0, 3.1]), WRONG),
    "wrong in its second data set": (case("Add", PAIR, [0, 3], [0, 3.1]), WRONG),
    "shaped by an operand": (case("Reshape", SHAPED, range(6)), CORRECT),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """One compilation for all: starting the compilers costs most."""
    known = {c.name: c for c in cases("node")}
    chosen = {**{n: known[n] for n in SAMPLE}, **{n: c for n, (c, _) in OWN.items()}}
    with np.errstate(all="ignore"):
        return dict(zip(chosen, compile_cases(list(chosen.values())), strict=True))


def test_a_sample_is_correct_or_refused(outcomes: dict[str, Outcome]) -> None:
    found = {name: outcomes[name] for name in SAMPLE}
    assert {n: o.reason for n, o in found.items() if o.verdict == WRONG} == {}
    assert [n for n, o in found.items() if o.verdict == UNSUPPORTED] == ["lstm_batchwise"]
    reason = found["lstm_batchwise"].reason
    assert "op LSTM cannot be compiled" in reason
    assert "\n" not in reason


@pytest.mark.parametrize("name", OWN)
def test_the_judge(name: str, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[name].verdict == OWN[name][1], outcomes[name].reason
    assert ("Mismatched" in outcomes[name].reason) == (OWN[name][1] == WRONG)


@pytest.mark.slow
def test_every_twentieth_case_is_correct_or_refused() -> None:
    chosen = [c for kind in ("node", "simple", "pytorch-operator") for c in cases(kind)][::20]
    with np.errstate(all="ignore"):
        found = compile_cases(chosen)
    assert [(o.case.name, o.reason) for o in found if o.verdict == WRONG] == []
    assert sum(o.verdict == CORRECT for o in found) > len(found) / 2


def test_what_escapes_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(conformance_code, "lower", broken)
    (outcome,) = compile_cases([OWN["right"][0]])
    assert (outcome.verdict, outcome.reason) == (WRONG, "ZeroDivisionError: of ours")


def test_a_network_whose_cases_all_fail_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BackendError("kernel qc_0: no")

    chosen = OWN["right"][0]
    failed = Outcome(chosen, UNSUPPORTED, "no")
    monkeypatch.setattr(conformance_code, "build", refused)
    monkeypatch.setattr(conformance_code, "_failing", lambda part, *_: dict.fromkeys(part, failed))
    assert compile_cases([chosen]) == [failed]


def test_weights_and_shapes_become_constants_only_where_they_must() -> None:
    target = load("host")
    plain = prepare(OWN["right"][0], target)
    assert [v.name for v in plain.graph.inputs] == ["x0", "x1"]
    shaped = prepare(OWN["shaped by an operand"][0], target)
    assert [v.name for v in shaped.graph.inputs] == ["x0"]
    assert [v.name for v in merged({3: plain, 5: shaped}).inputs] == ["3/x0", "3/x1", "5/x0"]


def test_what_has_no_code_is_refused_by_name() -> None:
    with pytest.raises(QcError, match="'y': op Det cannot be compiled"):
        prepare(case("Det", [np.eye(2, dtype=np.float32)], 1.0), load("host"))
