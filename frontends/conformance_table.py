"""The table of ONNX's own test cases.

``python -m qc.frontends.conformance_table > docs/conformance.md`` writes the document.  With
``--reasons`` every case that is not correct is printed, one per line.
"""

import sys
from collections import Counter
from collections.abc import Sequence

import onnx

from .conformance import CORRECT, KINDS, UNSUPPORTED, WRONG, Case, Outcome, cases

_EXPANDED = "_expanded"
_WIDTH = 160


def run_all() -> list[Outcome]:
    """All cases of all kinds; an exception that is not ours is a wrong result."""
    return [_run(case) for kind in KINDS for case in cases(kind)]


def _run(case: Case) -> Outcome:
    try:
        return case.run()
    except Exception as error:  # a bug, whatever it is: listed, not hidden
        return Outcome(case, WRONG, f"{type(error).__name__}: {' '.join(str(error).split())}")


def counts(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """How many cases of each kind have which verdict."""
    return {k: Counter(o.verdict for o in outcomes if o.case.kind == k) for k in KINDS}


def table(outcomes: Sequence[Outcome]) -> str:
    """The document."""
    lines = [
        "# The test cases of the `onnx` package",
        "",
        f"onnx {onnx.__version__}, opsets 1 to {onnx.defs.onnx_opset_version()}: read by the ONNX",
        "frontend, evaluated by the numpy reference, compared with each case's own tolerances.",
        "Made by `python -m qc.frontends.conformance_table`; do not edit.",
        "",
        "| kind | cases | correct | wrong | unsupported |",
        "|---|---|---|---|---|",
    ]
    for kind, count in counts(outcomes).items():
        verdicts = " | ".join(str(count[v]) for v in (CORRECT, WRONG, UNSUPPORTED))
        lines.append(f"| {kind} | {count.total()} | {verdicts} |")
    lines += ["", "## Node cases by operator and opset", ""]
    lines += ["Cases of an operator's expansion into others count for the operator.", ""]
    lines += [
        "| operator | opset | cases | correct | wrong | unsupported |",
        "|---|---|---|---|---|---|",
    ]
    node = [o for o in outcomes if o.case.kind == "node"]
    lines += by_operator(node)
    lines += ["", "## What is not supported", "", "| case | why |", "|---|---|"]
    for outcome in (o for o in outcomes if o.verdict != CORRECT):
        reason = outcome.reason.replace("|", "\\|")
        lines.append(f"| {outcome.case.kind}: {outcome.case.name} | {short(reason)} |")
    return "\n".join([*lines, ""])


def by_operator(outcomes: Sequence[Outcome]) -> list[str]:
    """A row for each operator and opset."""
    names = {o.case.name: _own_operator(o.case) for o in outcomes}
    rows: dict[tuple[str, int], Counter[str]] = {}
    for o in outcomes:
        base = o.case.name.partition(_EXPANDED)[0]
        name = names.get(base) or names[o.case.name]
        rows.setdefault((name, o.case.opset), Counter())[o.verdict] += 1
    return [
        f"| {name} | {opset} | {count.total()} | "
        + " | ".join(str(count[v] or "") for v in (CORRECT, WRONG, UNSUPPORTED))
        + " |"
        for (name, opset), count in sorted(rows.items(), key=lambda r: (r[0][0].lower(), r[0][1]))
    ]


def _own_operator(case: Case) -> str:
    """The operator that a case is about: its only node, else the one that its name begins with."""
    names = case.operators
    plain = case.name.replace("_", "").lower()
    named = [n for n in names if plain.startswith(n.rpartition(".")[2].lower())]
    return (named or [n for n in names if n != "Constant"] or ["(none)"])[-1]


def short(text: str) -> str:
    """A reason that fits into a row."""
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def main(args: Sequence[str]) -> int:
    """Print the document, or with ``--reasons`` the cases that are not correct."""
    outcomes = run_all()
    if "--reasons" in args:
        for o in (o for o in outcomes if o.verdict != CORRECT):
            line = (o.verdict, o.case.kind, o.case.name, str(o.case.opset), o.reason)
            sys.stdout.write("\t".join(line) + "\n")
    else:
        sys.stdout.write(table(outcomes))
    return int(any(o.verdict == WRONG for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
