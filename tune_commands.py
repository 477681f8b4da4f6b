"""What the commands around tuning do."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from .commands import job_of, set_up_log, write_json
from .progress import Shown
from .report import Facts
from .tables import text_table
from .tuning import Where


def do_tune(args: Namespace) -> int:
    """``qc tune``."""
    from . import api

    set_up_log(args.debug)
    job = replace(job_of(args), where=Where(args.device, args.tracker, args.key))
    with Shown() as progress:
        found = api.tune(job, args.seconds, args.target, progress)
    if args.json != "-":
        _show(found)
    write_json(args.json, found)
    return 0


def do_device(args: Namespace) -> int:
    """``qc device serve``: in a process that needs nothing of ``qc``."""
    from .backends.codegen import device_server

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
