"""The test cases of the ``onnx`` package: none wrong, none that escapes, none lost again."""

import re
from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from qc.frontends.conformance import CORRECT, KINDS, UNSUPPORTED, WRONG, Case, cases
from qc.frontends.conformance_table import counts, run_all, table

BARS = {"node": 1400, "others": 135}
"""What is promised of any version of ``onnx``; the document says what is reached."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


@pytest.fixture(scope="module")
def outcomes():
    return run_all()


@pytest.mark.slow
def test_no_case_is_wrong(outcomes):
    assert [(o.case.name, o.reason) for o in outcomes if o.verdict == WRONG] == []


@pytest.mark.slow
def test_every_refusal_is_one_line_with_a_reason(outcomes):
    refused = [o for o in outcomes if o.verdict == UNSUPPORTED]
    assert all(o.reason and "\n" not in o.reason for o in refused)


@pytest.mark.slow
def test_no_fewer_cases_are_correct_than_the_document_says(outcomes):
    documented = {
        kind: int(correct)
        for kind, correct in re.findall(r"\| ([\w-]+) \| \d+ \| (\d+) \|", DOCUMENT.read_text())
        if kind in KINDS
    }
    assert set(documented) == set(KINDS)
    reached = {kind: count[CORRECT] for kind, count in counts(outcomes).items()}
    assert all(reached[kind] >= documented[kind] for kind in KINDS), reached
    assert reached.pop("node") >= BARS["node"]
    assert sum(reached.values()) >= BARS["others"]


@pytest.mark.slow
def test_the_document_is_up_to_date(outcomes):
    said = DOCUMENT.read_text(encoding="utf-8")
    if f"onnx {onnx.__version__}," not in said:
        pytest.skip(f"the document is of another version than onnx {onnx.__version__}")
    again = "python -m qc.frontends.conformance_table > docs/conformance.md"
    assert said == table(outcomes), again


# -- the judge itself ----------------------------------------------------------------------------


def case(expected, kind="Relu", rtol=1e-3):
    """A case of one node on ``[-1, 2]``."""
    import numpy as np
    from onnx.backend.test.case.test_case import TestCase

    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    data = [([np.array([-1, 2], np.float32)], [np.array(expected, np.float32)])]
    return Case("node", TestCase("test_it", "it", None, None, model, data, "node", rtol, 1e-7))


def test_a_case_is_judged_by_its_own_tolerance():
    assert case([0, 2]).run().verdict == CORRECT
    assert case([0, 2.001]).run().verdict == CORRECT
    assert case([0, 2.001], rtol=1e-4).run().verdict == WRONG
    assert "Mismatched" in case([0, 3]).run().reason


def test_what_the_reader_refuses_is_unsupported():
    outcome = case([0, 2], "RandomUniformLike").run()
    assert outcome.verdict == UNSUPPORTED
    assert "RandomUniformLike" in outcome.reason


def test_a_case_says_its_operators_and_opset():
    assert (case([0, 2]).operators, case([0, 2]).opset) == (["Relu"], 18)


def test_every_kind_has_its_cases():
    found = Counter(c.kind for kind in KINDS[1:] for c in cases(kind))
    assert found == {"simple": 23, "pytorch-operator": 35, "pytorch-converted": 82}
