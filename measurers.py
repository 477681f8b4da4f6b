"""Who measures kernels for a target, and whose times a compilation takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .ir.errors import DataError, TargetError
from .reporting.report import Facts
from .targets import Target, cuda_device, missing_features

if TYPE_CHECKING:
    from .backends.codegen.tuning.choices import Choices
    from .backends.codegen.tuning.records import Database


def measurer_here(target: Target, required: bool = False) -> str:
    """The name under which this machine measures for ``target``; empty where it cannot.

    Raises ``TargetError`` where it cannot and it is ``required``.
    """
    from .backends.codegen.tuning.machine import local

    missing = missing_features(target)
    if target.arch and not missing and (here := _device_here()) != target.arch:
        missing = [f"a CUDA device {target.arch} (this one is {here}: give a target of that arch)"]
    if not missing:
        return local(target)
    if required:
        raise TargetError(
            f"kernels for {target.name!r} cannot be timed here: this machine lacks "
            f"{', '.join(missing)}; give {'' if target.arch else '--device, --tracker or '}--bundle"
        )
    return ""


def _device_here() -> str:
    return f"sm_{cuda_device.compute_capability()}"


def check_measurer(name: str, target: Target, database: Database) -> str:
    """The one who measured kernels for ``target`` and is called something with ``name``.

    ``DataError`` says who did where that is nobody, or several.
    """
    from .backends.codegen.tuning.records import Setting

    known = database.measurers(Setting.of(target))
    found = [m for m in known if name in m]
    if name in known or len(found) == 1:
        return name if name in known else found[0]
    raise DataError(
        f"--measured-on {name!r} is {'part of several names' if found else 'nobody'}: kernels for "
        f"{target.name!r} were measured on {_listed(found or known)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "no machine"


def facts_of(choices: Choices) -> Facts:
    """How much of a compilation a database decided."""
    return {
        "database": str(choices.database.path),
        "workloads": len(choices.asked),
        "recorded": len(choices.recorded),
        "measured_on": sorted(choices.judges),
        "skipped_lines": choices.database.skipped,
    }


def note_on_measurers(choices: Choices) -> list[str]:
    """Whose times were taken where several machines measured."""
    from .backends.codegen.tuning.records import Setting

    known = choices.database.measurers(Setting.of(choices.target))
    others = [m for m in known if m not in choices.judges]
    if not others or not choices.judges:
        return []
    return [
        f"Kernels are those that were fastest on {_listed(sorted(choices.judges))}; "
        f"{_listed(others)} measured some, too (--measured-on NAME takes theirs)."
    ]
