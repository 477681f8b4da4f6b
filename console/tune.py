"""What the commands around tuning do."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from ..ir.errors import DataError
from ..progress import Shown
from ..reporting.report import Facts
from ..tables import text_table
from ..tuning import Where
from .commands import job_of, set_up_log, write_json


def do_tune(args: Namespace) -> int:
    """``qc tune``."""
    from .. import api

    set_up_log(args.debug)
    _check(args)
    if args.results:
        return _import(args)
    job = replace(job_of(args), where=Where(args.device, args.tracker, args.key))
    if args.bundle:
        with Shown() as progress:
            packed = api.tune_bundle(job, args.bundle, args.seconds, args.target, progress)
        if args.json != "-":
            print(
                f"{args.bundle}: {packed['kernels']} kernels of {packed['workloads']} workloads "
                f"({packed['failed']} failed, {packed['left']} workloads left out)\n"
                "on the device: tar xf FILE, sh qc-bundle/run.sh; bring results.json back, then\n"
                "qc tune --import results.json"
            )
        write_json(args.json, packed)
        return 0
    with Shown() as progress:
        found = api.tune(job, args.seconds, args.target, progress)
    if args.json != "-":
        _show(found)
    write_json(args.json, found)
    return 0


def _check(args: Namespace) -> None:
    ways = {
        "--device": args.device, "--tracker": args.tracker, "--bundle": args.bundle,
        "--import": args.results,
    }  # fmt: skip
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise DataError(f"give {given[0]} or {given[1]}, not both")
    if args.results and args.model:
        raise DataError("--import takes no model: the results know what they are of")
    if not args.results and not args.model:
        raise DataError("give the MODEL or artifact to tune")


def _import(args: Namespace) -> int:
    """``qc tune --import``."""
    from .. import api

    found = api.import_results(args.results, args.db)
    if args.json != "-":
        print(
            f"{found['records']} records ({found['failed']} failed, {found['missing']} missing) "
            f"of {found['device']} are in {found['database']}"
        )
    write_json(args.json, found)
    return 0


def do_device(args: Namespace) -> int:
    """``qc device serve``: in a process that needs nothing of ``qc``."""
    from ..backends.codegen import device_server

    return device_server.main(args.options)


def _show(found: Facts) -> None:
    workloads = found["workloads"]
    assert isinstance(workloads, list)
    print(
        text_table(
            ["workload", "input", "output", "calls", "default us", "best us", "gain", "kernel"],
            [_line(w) for w in workloads],
        )
    )
    measured, failed, left = (sum(w[k] for w in workloads) for k in ("measured", "failed", "left"))
    print(
        f"\n{len(workloads)} workloads, {measured} kernels measured ({failed} failed, {left} left) "
        f"on {found['measurer']}: {found['speedup']:.2f} times the speed of the defaults"
    )
    print(f"records are in {found['database']}")


def _line(w: Facts) -> list[object]:
    default, best, knobs = w["default_us"], w["best_us"], w["knobs"]
    assert isinstance(knobs, dict)
    kernel, strides = w["kernel"], w["strides"]
    assert isinstance(kernel, list)
    assert isinstance(strides, list)
    gain = None
    if isinstance(default, float) and isinstance(best, float) and best:
        gain = f"{default / best:.2f}"
    size = "x".join(map(str, kernel)) + (f"/{strides[0]}" if max(strides) > 1 else "")
    chosen = ", ".join(f"{k}={int(v)}" for k, v in knobs.items())
    return [
        f"{w['op']} {size}", _shape(w["input"]), _shape(w["output"]), w["calls"], default, best,
        gain, f"{w['template']} {chosen}",
    ]  # fmt: skip


def _shape(value: object) -> str:
    assert isinstance(value, list)
    return "x".join(map(str, value))
