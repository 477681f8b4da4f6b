"""The table of supported operators: ``python -m qc.frontends.coverage > docs/operators.md``."""

import sys
from collections.abc import Callable

import onnx

from .onnx_control import CONTROL
from .onnx_file import CONTRIB_DOMAIN, NEWEST, OLDEST
from .onnx_functions import is_defined_by_others
from .onnx_refused import DOMAINS, REFUSED
from .onnx_rules import RULES
from .onnx_rules.contrib import CONTRIB
from .onnx_sequences import SEQUENCES

_DEFINED = "by ONNX's definition in other operators"


def operators() -> list[tuple[str, int, str]]:
    """Name, first opset and what it becomes, for each supported operator of the standard domain."""
    notes = {name: (rule.__doc__ or "").strip() for name, rule in _rules().items()}
    defined = {s.name for s in _standard() if is_defined_by_others(s)}
    notes |= dict.fromkeys(defined - set(notes) - set(REFUSED), _DEFINED)
    first = _first()
    return [(name, first[name], notes[name]) for name in sorted(notes)]


def _rules() -> dict[str, Callable[..., object]]:
    return {**RULES, **CONTROL, **SEQUENCES}


def refused() -> list[str]:
    """The other operators of the standard domain."""
    supported = {name for name, _, _ in operators()}
    return sorted({s.name for s in _standard()} - supported)


def _standard() -> list[onnx.defs.OpSchema]:
    return [s for s in onnx.defs.get_all_schemas() if not s.domain and not s.deprecated]


def _first() -> dict[str, int]:
    """The opset that each operator came with."""
    found: dict[str, int] = {}
    for s in onnx.defs.get_all_schemas_with_history():
        if not s.domain:
            found[s.name] = min(found.get(s.name, s.since_version), s.since_version)
    return found


def table() -> str:
    """The document."""
    lines = [
        "# Operators that the ONNX reader supports",
        "",
        f"Opsets {OLDEST} to {NEWEST}, older ones as `onnx.version_converter` converts them.  Made",
        "by `python -m qc.frontends.coverage`; do not edit.  [conformance.md](conformance.md) says",
        "which of ONNX's own test cases come out right.",
        "",
        "| operator | since opset | how it is read |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {since} | {note} |" for name, since, note in operators()]
    lines += [
        "",
        "Operators of ONNX's other domains are read where ONNX defines them by standard ones, and",
        f"refused by name otherwise.  Of `{CONTRIB_DOMAIN}` those of quantized networks are read:",
        f"{', '.join(sorted(CONTRIB))}.",
        "",
        "## Refused by name",
        "",
        "| operator | why |",
        "|---|---|",
        *(f"| {name} | {REFUSED.get(name, '')} |" for name in refused()),
        *(f"| {domain}.* | {reason} |" for domain, reason in DOMAINS.items()),
        "",
        "A node of a foreign domain is kept as `Opaque` if the file says the types of its results;",
        "code generation refuses it by name.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table())
