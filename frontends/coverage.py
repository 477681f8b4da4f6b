"""The table of supported operators: ``python -m qc.frontends.coverage > docs/operators.md``."""

import sys

import onnx

from .onnx_file import NEWEST, OLDEST
from .onnx_rules import RULES

_REFUSED = {
    "If": "only with a constant condition, whose branch is taken",
    "Loop": "not yet",
    "Scan": "not yet",
    "LSTM": "not yet",
    "GRU": "not yet",
    "RNN": "not yet",
}


def operators() -> list[tuple[str, int, str]]:
    """Name, first opset and what it becomes, for each supported operator of the standard domain."""
    first: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            first[schema.name] = min(first.get(schema.name, NEWEST), schema.since_version)
    return [(n, first[n], (RULES[n].__doc__ or "").strip()) for n in sorted(RULES)]


def table() -> str:
    """The document."""
    lines = [
        "# Operators that the ONNX reader supports",
        "",
        f"Opsets {OLDEST} to {NEWEST}.  Made by `python -m qc.frontends.coverage`; do not edit.",
        "",
        "| operator | since opset | how it is read |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {since} | {note} |" for name, since, note in operators()]
    lines += ["", "## Refused by name", "", "| operator | why |", "|---|---|"]
    lines += [f"| {name} | {why} |" for name, why in sorted(_REFUSED.items())]
    lines += [
        "",
        "A node of a foreign domain is kept as `Opaque` if the file says the types of its results;",
        "code generation refuses it by name.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table())
