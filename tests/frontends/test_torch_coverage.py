"""The table of ATen ops; needs no torch."""

from pathlib import Path

from qc.frontends.torch_coverage import table
from qc.frontends.torch_rules import RULES

DOCUMENT = Path(__file__).parents[2] / "docs" / "torch-operators.md"


def test_the_document_is_up_to_date():
    again = "python -m qc.frontends.torch_coverage > docs/torch-operators.md"
    assert DOCUMENT.read_text(encoding="utf-8") == table(), again


def test_every_rule_is_in_it():
    listed = set()
    for line in table().splitlines():
        if line.startswith("| ") and not line.startswith("| op |"):
            op, overloads, note = (cell.strip() for cell in line.strip("| ").split(" | "))
            assert note
            listed |= {f"{op}.{overload}" for overload in overloads.split(", ")}
    assert listed == set(RULES)
