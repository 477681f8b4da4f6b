"""What the benchmarks share: ``qc`` from this checkout, the zoo beside it, tables in markdown."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
ZOO_NAMES = (
    "resnet20", "resnet8", "squeezenet", "squeezenet_fp16", "mobilenet_v1", "mobilenet_v2", "vww",
    "kws", "face_rfb320", "fastestdet", "mnist",
)  # fmt: skip
"""The networks of the zoo that the main job is measured on."""


def _module(name: str, path: Path, package: bool) -> ModuleType:
    where = [str(path.parent)] if package else None
    spec = spec_from_file_location(name, path, submodule_search_locations=where)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if find_spec("qc") is None:
    _module("qc", ROOT / "__init__.py", package=True)


def zoo() -> ModuleType:
    """The zoo's module, from ``QC_ZOO`` or beside the checkout; exits with a reason without one."""
    root = Path(os.environ.get("QC_ZOO") or ROOT.parent / "shared" / "zoo")
    code = next(
        (p for p in (root / "zoo.py", ROOT.parent / "shared" / "zoo" / "zoo.py") if p.is_file()),
        None,
    )
    if code is None:
        sys.exit(f"no zoo at {root}: set QC_ZOO or give .onnx files")
    return sys.modules.get("zoo") or _module("zoo", code, package=False)


def machine() -> dict[str, object]:
    """Where figures come from."""
    from qc.reporting.provenance import versions
    from qc.targets import load

    host = load("host")
    return {"cpu": host.cpu, "cores": host.cores, "system": platform.platform(), **versions()}


def markdown(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def conclude(headers: Sequence[str], rows: Sequence[Sequence[object]], where: str | None) -> None:
    """Print the whole table; write it, if that is asked for, with where its figures come from."""
    print("\n" + markdown(headers, rows))
    found = [dict(zip(headers, row, strict=True)) for row in rows]
    finish({"machine": machine(), "results": found}, where)


def finish(data: Mapping[str, object], where: str | None) -> None:
    """Write the JSON, if it is asked for."""
    if where:
        Path(where).write_text(json.dumps(data, indent=1) + "\n")
