"""The table of supported operators."""

from pathlib import Path

import onnx

from qc.frontends.coverage import operators, table
from qc.frontends.onnx_rules import RULES

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_document_is_up_to_date():
    again = "python -m qc.frontends.coverage > docs/operators.md"
    assert DOCUMENT.read_text(encoding="utf-8") == table(), again


def test_every_rule_is_for_an_operator_that_exists_and_says_what_it_does():
    real = {s.name for s in onnx.defs.get_all_schemas_with_history() if not s.domain}
    assert set(RULES) <= real
    assert all(note for _, _, note in operators())
