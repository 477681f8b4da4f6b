"""What was measured: a database of JSON lines that only grows.

A line is one measurement. Lines of other programs, other versions and torn ones are skipped and
counted, never deleted. Writers lock the file, and a line that a crash tore is closed by the next
one, so that a broken line costs itself alone.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ....ir.errors import BackendError
from ....targets.target import Target
from ..kernels import (
    SCHEDULED,
    VERSION,
    ConvWorkload,
    DepthwiseWorkload,
    FloatEpilogue,
    View,
    has_plain,
)
from ..template import TemplateKernel, candidates, scheduled

Knob = int | str
"""A number, or JSON text of what is more than one."""

FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What a measurement is valid for, beside the workload and who measured it."""

    cpu: str
    features: tuple[str, ...]
    templates: int
    tvm: str

    @staticmethod
    def of(target: Target) -> "Setting":
        """The target, with the versions of what generates code here.

        Of CUDA it is the device's architecture that times hold for, and for no other.
        """
        cpu = f"cuda {target.arch}" if target.arch else f"{target.triple} {target.cpu}".strip()
        return Setting(cpu, tuple(sorted(target.features)), VERSION, version("apache-tvm"))

    @staticmethod
    def parse(table: object) -> "Setting":
        """From JSON; ``ValueError`` for anything else."""
        if not isinstance(table, dict) or table.keys() != {f.name for f in fields(Setting)}:
            raise ValueError("not the fields of a setting")
        return Setting(**{**table, "features": tuple(map(str, table["features"]))})


@dataclass(frozen=True)
class Record:
    """One measurement of one kernel; ``seconds`` of a call, else ``error`` says why there is none.

    ``workload`` is the text of ``describe``, ``measurer`` names the machine and the way; ``final``:
    the best kernels of a workload were measured together, and only these times decide.
    """

    setting: Setting
    measurer: str
    workload: str
    template: str
    knobs: tuple[tuple[str, Knob], ...]
    seconds: float | None
    error: str = ""
    final: bool = False

    @staticmethod
    def of(
        setting: Setting,
        measurer: str,
        kernel: TemplateKernel,
        result: float | str,
        final: bool = False,
    ) -> "Record":
        """The record of what was measured of ``kernel``."""
        seconds, error = (None, result) if isinstance(result, str) else (result, "")
        text, knobs = describe(kernel.workload), knobs_of(kernel)
        return Record(setting, measurer, text, kernel.name, knobs, seconds, error, final)

    def line(self) -> str:
        """One line of JSON."""
        table = asdict(self) | {
            "qc": FORMAT,
            "workload": json.loads(self.workload),
            "knobs": {k: json.loads(v) if isinstance(v, str) else v for k, v in self.knobs},
        }
        return json.dumps(table, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def parse(line: str) -> "Record":
        """The record of a line; ``ValueError`` for what is none."""
        table = _table(line, Record)
        knobs = tuple((str(k), _knob(v)) for k, v in dict(table["knobs"]).items())
        seconds = table["seconds"]
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise ValueError(f"seconds = {seconds!r}")
        workload = _text(_renewed(table["workload"]))
        return Record(
            Setting.parse(table["setting"]), str(table["measurer"]), workload,
            str(table["template"]), tuple(sorted(knobs)), seconds, str(table["error"]),
            bool(table["final"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """Which nodes of a network stay float, and why; ``network`` is a hash that its pass chose."""

    setting: Setting
    measurer: str
    network: str
    floats: tuple[tuple[str, str], ...]

    def line(self) -> str:
        """One line of JSON."""
        table = asdict(self) | {"qc": FORMAT, "floats": dict(self.floats)}
        return json.dumps(table, sort_keys=True, allow_nan=False) + "\n"

    @staticmethod
    def parse(line: str) -> "Decision":
        """The decision of a line; ``ValueError`` for what is none."""
        table = _table(line, Decision)
        floats = tuple((str(k), str(v)) for k, v in dict(table["floats"]).items())
        setting = Setting.parse(table["setting"])
        return Decision(setting, str(table["measurer"]), str(table["network"]), floats)


def _table(line: str, kind: type[Record] | type[Decision]) -> dict[str, Any]:
    """The JSON of a line; ``ValueError`` unless it has the fields of ``kind``."""
    table = json.loads(line)
    if not isinstance(table, dict) or table.pop("qc", None) != FORMAT:
        raise ValueError("not of this format")
    if table.keys() != {f.name for f in fields(kind)}:
        raise ValueError(f"not the fields of a {kind.__name__}")
    return table


_HALF = 8
"""In the sixteenths in which ``visits`` are counted."""


def describe(workload: ConvWorkload) -> str:
    """A workload as canonical JSON, without the numbers that no time depends on.

    Zero points, bounds and the multipliers of residuals are left out.  Visits count by halves (in
    the smallest groups, which the others follow), so that layers of one shape are mostly one
    workload, whatever their weights: at one and a half another template becomes the better one.
    """
    e = workload.epilogue
    if isinstance(e, FloatEpilogue):
        after = "float"
    else:
        after = e.dtype + ("+residual" if e.residual else "") + ("+table" if e.table else "")
    visits = {"visits": -(-workload.visits[0] // _HALF)} if workload.visits else {}
    samples = {"samples": workload.samples} if workload.samples > 1 else {}
    return _text(
        visits
        | samples
        | {
            "op": "depthwise" if isinstance(workload, DepthwiseWorkload) else "conv",
            "x": _view(workload.x),
            "y": _view(workload.y),
            "residual": None if workload.residual is None else _view(workload.residual),
            "kernel": list(workload.kernel),
            "strides": list(workload.strides),
            "dilations": list(workload.dilations),
            "epilogue": after,
        }
    )


def _renewed(workload: object) -> object:
    """A workload of a line as ``describe`` says it now; ``ValueError`` where that is not known.

    Visits were the nearest quarters, of two depths: an odd number of them lies within one half, an
    even one is about where a half ends.
    """
    match workload:
        case {"visits": [int(quarters), *_], **others} if quarters % 2:
            return {"visits": (quarters + 1) // 2, **others}
        case {"visits": [*_]}:
            raise ValueError("counted by quarters")
    return workload


def _view(v: View) -> list[object]:
    return [v.height, v.width, v.channels, v.row_stride, v.pixel_stride, v.dtype]


def _knob(value: object) -> Knob:
    return _text(value) if isinstance(value, list) else int(value)  # type: ignore[call-overload]


def _text(table: object) -> str:
    return json.dumps(table, sort_keys=True, separators=(",", ":"))


def knobs_of(kernel: TemplateKernel) -> tuple[tuple[str, Knob], ...]:
    """The knobs as plain numbers and texts."""
    knobs = asdict(kernel.knobs).items()
    return tuple(sorted((k, v if isinstance(v, str) else int(v)) for k, v in knobs))


@dataclass
class Database:
    """Records of a file (none: of this process only), by workload, in the order of writing.

    ``skipped`` counts lines that are no records of this format.
    """

    path: Path | None = None
    records: dict[str, list[Record]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    skipped: int = 0

    @staticmethod
    def open(path: Path | None) -> "Database":
        """Read a database; an absent file is an empty one.

        Raises ``BackendError`` for a path that cannot be read.
        """
        database = Database(path)
        if path is None or not path.exists():
            return database
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BackendError(f"database {str(path)!r}: {error.strerror}") from error
        for line in data.decode(errors="replace").split("\n"):
            if not line.strip():
                continue
            try:
                if '"floats"' in line:
                    database.decisions.append(Decision.parse(line))
                else:
                    database._keep(Record.parse(line))
            except (ValueError, KeyError, TypeError):
                database.skipped += 1
        return database

    def add(self, records: Iterable[Record]) -> None:
        """Append; ``BackendError`` where the file cannot be written."""
        new = list(records)
        for record in new:
            self._keep(record)
        self._write("".join(r.line() for r in new))

    def decide(self, decision: Decision) -> None:
        """Append a decision; raises as ``add``."""
        self.decisions.append(decision)
        self._write(decision.line())

    def decision(
        self, setting: Setting, network: str, measurer: str, only: bool = False
    ) -> dict[str, str] | None:
        """What ``measurer`` last decided for a network; else, unless ``only``, anybody."""
        found = [d for d in self.decisions if d.network == network and d.setting == setting]
        own = [d for d in found if d.measurer == measurer]
        chosen = own if own or only else found
        return dict(chosen[-1].floats) if chosen else None

    def results(
        self, setting: Setting, measurer: str, workload: ConvWorkload
    ) -> dict[TemplateKernel, Record]:
        """What a measurer last found of every kernel of a workload that there still is."""
        known = {
            (r.template, r.knobs): r
            for r in self.records.get(describe(workload), ())
            if r.measurer == measurer and r.setting == setting
        }
        if not known:
            return {}
        features = frozenset(setting.features)
        kernels = candidates(workload, features)
        if has_plain(workload):
            traces = [dict(knobs).get("trace") for name, knobs in known if name == SCHEDULED]
            kernels += [scheduled(workload, features, t) for t in traces if isinstance(t, str)]
        return {k: known[key] for k in kernels if (key := (k.name, knobs_of(k))) in known}

    def best(
        self, setting: Setting, workload: ConvWorkload, measurer: str = ""
    ) -> tuple[TemplateKernel | None, str]:
        """The fastest kernel known for a workload that there still is, and by whose times.

        By those of ``measurer`` if it knows one, else of whoever last measured one: times of
        different measurers are never compared.  (None, "") where nobody did.
        """
        found = [r for r in self.records.get(describe(workload), ()) if r.setting == setting]
        names = dict.fromkeys(r.measurer for r in reversed(found) if r.seconds is not None)
        for name in sorted(names, key=lambda name: name != measurer):
            results = self.results(setting, name, workload)
            while (kernel := fastest(results)) is not None:
                if kernel.fits:
                    return kernel, name
                log.warning("the schedule recorded for %s does not fit it", describe(workload))
                del results[kernel]
        return None, ""

    def measurers(self, setting: Setting) -> list[str]:
        """All who measured kernels."""
        every = [r for found in self.records.values() for r in found if r.setting == setting]
        return list(dict.fromkeys(r.measurer for r in every if r.seconds is not None))

    def _write(self, text: str) -> None:
        if self.path is None or not text:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, text.encode())
        except OSError as error:
            raise BackendError(f"database {str(self.path)!r}: {error.strerror}") from error

    def _keep(self, record: Record) -> None:
        self.records.setdefault(record.workload, []).append(record)


def fastest(results: Mapping[TemplateKernel, Record]) -> TemplateKernel | None:
    """The kernel of the least time: of the final ones if there are any."""
    times = {k: r.seconds for k, r in results.items() if r.seconds is not None}
    finals = {k: times[k] for k, r in results.items() if r.final and k in times}
    return min(finals or times, key=lambda k: times[k], default=None)


def _append(path: Path, data: bytes) -> None:
    """Append whole lines under a lock; a torn last line is closed first."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)
