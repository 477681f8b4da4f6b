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

    Empty where nobody is asked for.  ``DataError`` says who did where that is nobody, or several.
    """
    from .backends.codegen.tuning.records import Setting

    if not name:
        return ""
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


def check_taken(choices: Choices, name: str) -> None:
    """``DataError`` where the one who was asked for (empty: nobody) decided about no kernel."""
    if name and choices.asked and name not in choices.judges:
        raise DataError(
            f"--measured-on {name!r}: none of the {len(choices.asked)} workloads of this network "
            "were measured there; tune it there (qc tune), or leave the option out"
        )


def facts_of(choices: Choices) -> Facts:
    """How much of a compilation a database decided; ``measured_on``: how many workloads by whom."""
    return {
        "database": str(choices.database.path),
        "workloads": len(choices.asked),
        "recorded": sum(choices.judges.values()),
        "measured_on": choices.judges,
        "skipped_lines": choices.database.skipped,
    }


def kernels_line(tuning: Facts) -> str:
    """How many kernels were measured before, by whom, and what decided about the others."""
    measured, every, who = (tuning[key] for key in ("recorded", "workloads", "measured_on"))
    assert isinstance(measured, int)
    assert isinstance(every, int)
    assert isinstance(who, dict)
    if not measured:
        return f"kernels: {every} workloads by estimate (qc tune measures them)"
    parts = [f"{name} ({count})" for name, count in who.items()] if len(who) > 1 else list(who)
    rest = f"; {every - measured} by estimate" if measured < every else ""
    return (
        f"kernels: {measured} of {every} workloads as measured, from {tuning['database']}, "
        f"on {', '.join(parts)}{rest}"
    )


def note_on_measurers(choices: Choices) -> list[str]:
    """Whose times were taken where several machines measured."""
    from .backends.codegen.tuning.records import Setting

    known = choices.database.measurers(Setting.of(choices.target))
    others = [m for m in known if m not in choices.judges]
    if not others or not choices.judges:
        return []
    return [
        f"Kernels are those that were fastest on {_listed(list(choices.judges))}; "
        f"{_listed(others)} measured some, too (--measured-on NAME takes theirs)."
    ]
