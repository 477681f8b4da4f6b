"""ONNX's own test cases through compiled code: correct, wrong, refused, by operator.

    python benchmarks/conformance.py > docs/conformance-compiled.md     # all cases: takes long
    python benchmarks/conformance.py --every 10 --reasons               # a tenth, what is not right

Cases that the reader refuses are left out.  Every other one is compiled in float for this machine,
and its results are compared with the case's own tolerances.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import setting

from qc.conformance_code import compile_cases
from qc.frontends.conformance import CORRECT, KINDS, UNSUPPORTED, WRONG, Case, Outcome, cases
from qc.frontends.conformance_table import by_operator, short
from qc.frontends.from_onnx import load
from qc.ir.errors import FrontendError
from qc.progress import Progress, Silent

ABOUT = """\
Every case that the ONNX frontend reads is compiled in float for the machine that made this table,
and the results are compared with the case's own tolerances. Networks hold weights and shapes as
constants while cases feed them: a case that cannot be compiled as it is gets all inputs but the
first as constants. What cannot be compiled is refused by name.
Made by `python benchmarks/conformance.py`; do not edit."""


class Lines(Silent):
    """Progress, a line per stage's step on standard error."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, steps: int = 1) -> None:
        """Steps done."""
        self.steps += steps
        print(f"{self.steps} cases compiled", file=sys.stderr, flush=True)


def readable(every: int, names: Sequence[str]) -> list[Case]:
    """Every so many-th case (of operators whose cases begin like ``names``) that can be read."""
    found = [c for kind in KINDS for c in cases(kind)]
    if names:
        found = [c for c in found if any(c.name.startswith(n) for n in names)]
    return [c for c in found[::every] if _reads(c)]


def _reads(case: Case) -> bool:
    try:
        load(case.model)
    except FrontendError:
        return False
    return True


def run(chosen: Sequence[Case], progress: Progress | None = None) -> list[Outcome]:
    """Compile and judge, without numpy's warnings about infinities."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return compile_cases(chosen, progress)


def document(outcomes: Sequence[Outcome], every: int = 1) -> str:
    """The table in markdown."""
    lines = ["# The test cases of the `onnx` package as compiled code", ""]
    part = "all cases" if every == 1 else f"one of {every} cases, by name (`--every {every}`)"
    lines += [f"onnx {onnx.__version__}, {part}. {ABOUT}", ""]
    lines += ["| kind | cases | correct | wrong | refused |", "|---|---|---|---|---|"]
    for kind in KINDS:
        count = Counter(o.verdict for o in outcomes if o.case.kind == kind)
        verdicts = " | ".join(str(count[v]) for v in (CORRECT, WRONG, UNSUPPORTED))
        lines.append(f"| {kind} | {count.total()} | {verdicts} |")
    lines += ["", "## Node cases by operator and opset", ""]
    lines += [
        "| operator | opset | cases | correct | wrong | refused |",
        "|---|---|---|---|---|---|",
    ]
    lines += by_operator([o for o in outcomes if o.case.kind == "node"])
    lines += ["", "## What is refused", "", "| case | why |", "|---|---|"]
    for o in (o for o in outcomes if o.verdict != CORRECT):
        reason = short(o.reason.replace("|", "\\|"))
        lines.append(f"| {o.case.kind}: {o.case.name} | {reason} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, print the table or the reasons; 1 where a result is wrong."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("names", nargs="*", help="how the names of cases begin; default: all")
    top.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th case")
    top.add_argument("--reasons", action="store_true", help="what is not correct, a line each")
    top.add_argument("--json", metavar="FILE")
    args = top.parse_args(argv)
    outcomes = run(readable(args.every, args.names), Lines())
    if args.reasons:
        for o in (o for o in outcomes if o.verdict != CORRECT):
            print("\t".join((o.verdict, o.case.kind, o.case.name, o.reason)))
    else:
        print(document(outcomes, args.every))
    counts = dict(Counter(o.verdict for o in outcomes))
    setting.finish({"machine": setting.machine(), "results": counts}, args.json)
    return int(any(o.verdict == WRONG for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
