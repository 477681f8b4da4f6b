"""``qc analyze``."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from .commands import job_of, set_up_log, show_equalized, write_json
from .progress import Shown
from .report import number
from .tables import text_table


def do_analyze(args: Namespace) -> int:
    """``qc analyze``."""
    from .analysis import analyze

    set_up_log(args.debug)
    with Shown() as progress:
        found = analyze(job_of(args), args.samples, progress)
    if args.json != "-":
        print(
            text_table(
                ["layer", "op", "w bits", "a bits", "low", "high", "outliers", "SQNR dB",
                 "weights alone", "codes alone", "share"],
                [
                    [x["name"], x["op"], x["weight_bits"], x["activation_bits"], x.get("low"),
                     x.get("high"), x.get("outliers"), x["sqnr_db"], x["weights_db"],
                     x["activations_db"], f"{100 * float(str(x['share'])):.1f} %"]
                    for x in found.layers
                ],
            )
        )  # fmt: skip
        show_equalized(found.sites)
        print(f"\noutputs: {number(found.sqnr_db)} dB in {found.recipe}; the worst layers first")
    write_json(args.json, asdict(found))
    return 0
