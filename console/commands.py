"""What the commands do: call the library, print what it says."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..ir.errors import DataError
from ..measurers import kernels_line
from ..output import replacing_file
from ..progress import Shown
from ..reporting.report import Facts, number, size
from ..tables import text_table
from ..tuning import Where

if TYPE_CHECKING:
    from .. import api
    from ..ir.types import Array
    from ..models import Model
    from ..reporting.report import Report
    from ..scoring.runs import Difference


def do_compile(args: Namespace) -> int:
    """``qc compile``."""
    from .. import api

    set_up_log(args.debug)
    job = replace(
        job_of(args), evaluation=args.eval, max_drop=args.max_drop, verify=args.verify,
        tune=args.tune, where=Where(args.device), capacity=args.capacity,
        measured_on=args.measured_on,
    )  # fmt: skip
    with Shown() as progress:
        report = api.compile_to_directory(job, args.output, progress)
    if args.json != "-":
        _show_report(report)
    write_json(args.json, report.as_json())
    return _judged(report)


def job_of(args: Namespace) -> api.Job:
    """The options that ``qc compile`` and ``qc tune`` share."""
    from .. import api

    return api.Job(
        args.model, args.target or "host", args.recipe, args.calib,
        input_shapes=dict(_shape(text) for text in args.input_shape), keep_float=args.keep_float,
        preprocess=args.preprocess, seed=args.seed,
        options=dict(_option(text) for text in args.options), database=args.db,
        searcher=args.searcher,
    )  # fmt: skip


def _show_report(report: Report) -> None:
    print(ledger_table(report.ledger))
    floats = [x for x in report.layers if x["precision"] == "float"]
    print(f"\n{report.artifact}: {len(report.layers)} layers, {len(floats)} of them in float")
    for layer in floats[:8]:
        print(f"  float: {layer['name']} ({layer['op']}): {_why(layer)}")
    if len(floats) > 8:
        print(f"  and {len(floats) - 8} more: qc explain {report.artifact}")
    if report.check is not None:
        print(f"code on {report.check['samples']} sample: {report.check['text']}")
    if (t := report.tuning) is not None:
        print(kernels_line(t))
    for note in report.notes:
        print(f"note: {note}")
    if (e := report.evaluation) is not None:
        print(
            f"{e['metric']}: float {number(e['float'])}, compiled {number(e['compiled'])}, "
            f"drop {number(e['drop'])} points on {number(e['samples'])} samples"
        )
    print(f"done in {report.seconds:.1f} s; open {Path(report.artifact) / 'report.html'}")


def ledger_table(rows: list[Facts]) -> str:
    """The ledger for the terminal."""
    return text_table(
        ["pass", "kind", "seconds", "rewrites", "parameters", "MACs", "bytes", "SQNR", "metric"],
        [
            [r["pass"], r["kind"], r["seconds"], r["rewrites"], r["parameters"], r["macs"],
             size(r["bytes"]), r["sqnr_db"], r["metric"]]
            for r in rows
        ],
    )  # fmt: skip


def _judged(report: Report) -> int:
    e = report.evaluation
    if e is None or e["max_drop"] is None:
        return 0
    drop, allowed = e["drop"], e["max_drop"]
    assert isinstance(drop, float)
    assert isinstance(allowed, float)
    if drop <= allowed:
        return 0
    print(
        f"qc: error: {e['metric']} drops by {drop:.2f} points, more than --max-drop {allowed:g}; "
        "see the layers with the lowest SQNR in report.html",
        file=sys.stderr,
    )
    return 1


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=1,3,224,224``; a colon or an equals sign in the name is fine."""
    name, _, dims = text.rpartition("=")
    try:
        shape = tuple(int(d) for d in dims.split(",")) if dims else ()
    except ValueError:
        name = ""
    if not name:
        raise DataError(f"--input-shape {text!r} is not NAME=1,3,224,224")
    return name, shape


def _option(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or "." not in key:
        raise DataError(f"--set {text!r} is not PASS.OPTION=VALUE")
    return key, value


def do_run(args: Namespace) -> int:
    """``qc run``."""
    from ..data.dataset import Dataset
    from ..models import open_artifact, open_reference
    from ..scoring import runs as scoring

    set_up_log(args.debug)
    if args.reference:
        model = open_reference(args.artifact)
    else:
        model = open_artifact(args.artifact, device=args.device)
    data = Dataset(args.inputs, model.specs, args.preprocess, finite=False)
    difference = None
    with Shown() as progress:
        if args.reference:
            model, difference = _compared(model, args.artifact, args.device)
        outputs = scoring.collect(model.run, model.outputs, data, progress)
    for name, array in outputs.items():
        print(f"{name}: {array.dtype}{list(array.shape)}")
    if args.output:
        save_arrays(args.output, outputs)
        print(f"written to {args.output}")
    if model.note:
        print(f"note: {model.note}")
    if difference is None:
        return 0
    islands, db = _rule(args.artifact)
    what = "loaded artifact" if model.note else "compiled code"
    print(f"{what}: {difference}{'; there are float islands' if islands else ''}")
    if islands and db is not None:
        print(f"codes follow float sums: what lies {db:.0f} dB below the outputs counts as equal")
    return 0 if difference.passes(islands, db) else 1


def _compared(reference: Model, path: str, device: str | None) -> tuple[Model, Difference | None]:
    """The reference, which also runs the compiled code, where it can, and counts differences."""
    from ..ir.errors import TargetError
    from ..models import open_artifact
    from ..scoring.runs import Difference

    try:
        compiled = open_artifact(path, device=device)
    except TargetError as error:
        print(f"only the reference runs here: {error}", file=sys.stderr)
        return reference, None
    found = Difference()

    def run(feed):  # type: ignore[no-untyped-def]
        expected = reference.run(feed)
        found.update(compiled.run(feed), expected)
        return expected

    return replace(reference, run=run, note=compiled.note), found


def _rule(path: str) -> tuple[bool, float | None]:
    """Whether an artifact has float islands, and how far its code may be from the reference."""
    from ..ir.text import load
    from ..reporting.layers import islands, tolerance_db
    from ..reporting.report import read

    graph = load(Path(path))
    if not islands(graph):
        return False, None
    ledger = read(path).get("ledger") if (Path(path) / "report.json").exists() else None
    return True, tolerance_db(graph, ledger if isinstance(ledger, list) else [])


def save_arrays(path: str, outputs: dict[str, Array]) -> None:
    """Write an ``.npz`` file, whole or not at all."""
    import numpy as np

    with replacing_file(path) as draft, draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **outputs)


def do_eval(args: Namespace) -> int:
    """``qc eval``."""
    from .. import api
    from ..scoring.metrics import metric

    set_up_log(args.debug)
    with Shown() as progress:
        found = api.score(
            args.model, args.data, args.metric, args.against, args.preprocess, progress
        )
    if args.json != "-":
        print(
            f"{found.metric}: {metric(found.metric).show(found.value)} on {found.samples} samples"
        )
    write_json(args.json, {"metric": found.metric, "value": found.value, "samples": found.samples})
    return 0


def do_bench(args: Namespace) -> int:
    """``qc bench``."""
    from .. import api

    set_up_log(args.debug)
    if args.threads < 1:
        raise DataError(f"--threads {args.threads} must be at least 1")
    with Shown() as progress:
        found = api.bench(
            args.artifact, args.against, args.threads, args.model, progress=progress,
            device=args.device,
        )  # fmt: skip
    ours, peers = found["artifact_ms"], found["peers"]
    assert isinstance(ours, float)
    assert isinstance(peers, dict)
    if args.json != "-":
        rows = [["artifact", ours, 1.0], *([k, v, v / ours] for k, v in peers.items())]
        print(text_table(["engine", "median ms", "times ours"], rows))
        where = f"on {found['device']}" if found["device"] else "interleaved in one process"
        print(f"{args.threads} thread(s), {where}")
        if found["emulator"]:
            print(f"in {found['emulator']}: times of an emulator, not of a device")
        if found["note"]:
            print(f"note: {found['note']}")
    write_json(args.json, found)
    return 0


def do_explain(args: Namespace) -> int:
    """``qc explain``."""
    from ..reporting.report import read

    report = read(args.artifact)
    layers = report.get("layers")
    assert isinstance(layers, list)
    print(
        text_table(
            ["layer", "op", "precision", "bits", "low", "high", "scale", "zero point", "SQNR dB",
             "why"],
            [
                [x["name"], x.get("op"), x.get("precision"), _bits(x), x.get("low"), x.get("high"),
                 x.get("scale"), x.get("zero_point"), x.get("sqnr_db"), _why(x)]
                for x in layers
            ],
        )
    )  # fmt: skip
    kinds = Counter(_kind(x) for x in layers)
    parts = [f"{kinds['integers']} layers in integers"]
    parts += [f"{kinds[k]} in {k}" for k in ("number formats", "float") if kinds[k] or k == "float"]
    print(f"\n{', '.join(parts)}")
    show_equalized(report.get("equalized"))
    return 0


def show_equalized(sites: object) -> None:
    """The solver of every site that ``equalize`` found."""
    if not isinstance(sites, list) or not sites:
        return
    header = ["equalized channels of", "count", "read by", "solver", "error before", "error after"]
    rows = [
        [e["site"], e["channels"], " ".join(e["readers"]), e["solver"], e["before"], e["after"]]
        for e in sites
    ]
    print("\n" + text_table(header, rows))


def _bits(layer: Facts) -> str | None:
    """Bits of weights and of the codes that they are multiplied by: ``w4 a8``."""
    parts = [f"{k[0]}{layer[k]}" for k in ("weight_bits", "activation_bits") if k in layer]
    return " ".join(parts) or None


def _kind(layer: Facts) -> str:
    known = {"float": "float", "int8": "integers"}
    return known.get(str(layer.get("precision")), "number formats")


def _why(layer: Facts) -> str:
    if layer.get("precision") == "float":
        return str(layer.get("reason") or "no reason recorded")
    if _kind(layer) == "number formats":
        return "what it multiplies is rounded to these formats"
    return "its operands have codes, and its sums are exact in int32"


def do_targets(args: Namespace) -> int:
    """``qc targets``."""
    from .. import targets

    rows = []
    for name in targets.names():
        target = targets.load(name)
        here = "no code generation yet" if not target.available else "runs here"
        if target.available and (missing := targets.missing_features(target)):
            here = f"compiles; this machine lacks {', '.join(missing[:3])}"
            if target.emulator:
                where = "runs in" if target.emulated else "would run in"
                here = f"compiles; {where} {target.emulator[0]}"
            elif target.emulated:
                here += f" and emulates {'them' if len(missing) > 1 else 'it'}"
        rows.append([name, target.arch or target.cpu, target.description, here])
    print(text_table(["target", "cpu", "description", "state"], rows))
    return 0


def do_recipes(args: Namespace) -> int:
    """``qc recipes``."""
    from ..passes.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    rows = [[r.name, r.description, ", ".join(p.name for p in r.passes)] for r in recipes]
    print(text_table(["recipe", "description", "passes"], rows))
    return 0


def do_passes(args: Namespace) -> int:
    """``qc passes``."""
    from dataclasses import fields

    from ..passes.table import pass_class, pass_names

    rows = []
    for name in pass_names():
        cls = pass_class(name)
        options = ", ".join(f"{f.name}={f.default!r}" for f in fields(cls))
        rows.append([name, cls.kind.value, (cls.__doc__ or "").partition("\n")[0], options])
    print(text_table(["pass", "kind", "what it does", "options"], rows))
    return 0


def do_doctor(args: Namespace) -> int:
    """``qc doctor``."""
    from ..doctor import examine

    checks = examine()
    rows = [["ok" if c.ok else "BAD", c.name, c.found] for c in checks]
    print(text_table(["", "check", "found"], rows))
    for check in checks:
        if not check.ok:
            print(f"{check.name}: {check.remedy}")
    return 0 if all(c.ok for c in checks) else 1


def write_json(where: str | None, data: Facts) -> None:
    """Write ``data`` where ``--json`` says."""
    if where is None:
        return
    text = json.dumps(data, indent=1, allow_nan=False)
    if where == "-":
        print(text)
        return
    with replacing_file(where) as draft:
        draft.write_text(text + "\n")


def set_up_log(debug: bool) -> None:
    """Say warnings on standard error, or everything."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="qc: %(message)s",
        stream=sys.stderr,
    )
