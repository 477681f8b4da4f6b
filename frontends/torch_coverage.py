"""The table of ATen ops: ``python -m qc.frontends.torch_coverage > docs/torch-operators.md``."""

import sys

from .torch_rules import RULES


def table() -> str:
    """The document: one row per op, its overloads and what it becomes."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, rule in RULES.items():
        packet, _, overload = name.partition(".")
        rows.setdefault((packet, _note(rule.__doc__)), []).append(overload)
    lines = [
        "# ATen ops that the PyTorch reader knows",
        "",
        "Made by `python -m qc.frontends.torch_coverage`; do not edit.  Every other op is first",
        "taken apart by torch's own decompositions (`torch.export.default_decompositions`); what",
        "is left and not in this table is refused, all at once, with the paths of its modules.",
        "",
        "| op | overloads | what it becomes |",
        "|---|---|---|",
    ]
    lines += [
        f"| {op} | {', '.join(overloads)} | {note} |"
        for (op, note), overloads in sorted(rows.items())
    ]
    lines += [
        "",
        "A custom op (any namespace but `aten`) is kept as `Opaque`: passes leave it alone, code",
        "generation refuses it by name.",
        "",
    ]
    return "\n".join(lines)


def _note(doc: str | None) -> str:
    return (doc or "").strip().rstrip(".")


if __name__ == "__main__":
    sys.stdout.write(table())
