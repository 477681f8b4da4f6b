"""``qc analyze`` and ``qc diff``: what a recipe does to a network, layer by layer."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from ..progress import Shown
from ..reporting.report import number
from ..tables import text_table
from .commands import job_of, set_up_log, show_equalized, write_json

WORST = 5
"""Layers that ``qc diff`` names below its table."""


def do_analyze(args: Namespace) -> int:
    """``qc analyze``."""
    from ..diagnosis.damage import analyze

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


def do_diff(args: Namespace) -> int:
    """``qc diff``."""
    from ..diagnosis.departures import departures

    set_up_log(args.debug)
    with Shown() as progress:
        found = departures(
            args.model, args.artifact, args.data, args.samples, args.preprocess, progress
        )
    if args.json != "-":
        print(
            text_table(
                ["layer", "op", "against", "compared", "SQNR dB", "lost dB"],
                [
                    [x.name, x.op, x.value, x.compared, x.sqnr_db, x.lost_db]
                    for x in found.layers
                    if x.macs or args.all
                ],
            )
        )
        worst = sorted((x for x in found.layers if x.added), key=lambda x: -x.added)[:WORST]
        named = ", ".join(f"{x.name} ({number(x.sqnr_db)} dB)" for x in worst)
        print(f"\nmost noise is added at: {named or 'none'}")
        if found.unmatched:
            print(f"{found.unmatched} results have no counterpart in {args.model}")
        ends = ", ".join(f"{k} {number(v)} dB" for k, v in found.outputs.items())
        print(f"outputs on {found.samples} sample(s): {ends}")
    write_json(args.json, asdict(found))
    return 0
