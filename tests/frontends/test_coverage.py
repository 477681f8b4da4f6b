"""The table of supported operators."""

from pathlib import Path

import onnx

from qc.frontends.coverage import operators, refused, table
from qc.frontends.onnx_control import CONTROL
from qc.frontends.onnx_refused import REFUSED
from qc.frontends.onnx_rules import RULES

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_document_is_up_to_date():
    again = "python -m qc.frontends.coverage > docs/operators.md"
    assert DOCUMENT.read_text(encoding="utf-8") == table(), again


def test_every_rule_is_for_an_operator_that_exists_and_says_what_it_does():
    real = {s.name for s in onnx.defs.get_all_schemas_with_history() if not s.domain}
    assert set(RULES) | set(CONTROL) <= real
    assert all(note for _, _, note in operators())


def test_supported_and_refused_are_all_there_are():
    real = {s.name for s in onnx.defs.get_all_schemas() if not s.domain and not s.deprecated}
    supported = {name for name, _, _ in operators()}
    assert real <= supported | set(refused())
    assert not supported & set(refused())
    assert all(REFUSED.get(name) for name in refused())
    assert "Attention" in supported
    assert "RandomNormal" in refused()
