"""What a compilation did, as JSON for machines and as one HTML file that opens offline."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, object]

_TEMPLATE = "report.html.j2"


@dataclass
class Report:
    """All that is reported.

    ``ledger``: rows under the keys of ``--json``.  ``layers``: one each, with ``name``, ``op``,
    ``precision`` (``int8`` or ``float``), and where known ``low``, ``high``, ``scale``,
    ``zero_point``, ``sqnr_db``, ``macs``, ``weight_bits`` and ``activation_bits`` (of the codes
    that a layer multiplies), ``reason`` (why it is float).  ``check``: the generated
    code against the reference (``samples``, ``values``, ``differing``).  ``evaluation``:
    ``metric``, ``samples``, ``float``, ``compiled``, ``drop``, ``max_drop``.  ``tuning``: the
    ``database``, and how many of the ``workloads`` are ``recorded`` there.  ``notes``: sentences
    for the user.  ``pruned``: groups of channels, each with ``group``, ``channels``, ``kept``.
    ``equalized``: sites, each with ``site``, ``solver``, ``channels``, ``readers``, ``before`` and
    ``after`` (the readers' measured error over their variance, or null).
    """

    artifact: str
    model: str
    target: str
    recipe: str
    seconds: float = 0.0
    parameters: int = 0
    macs: int = 0
    bytes: int = 0
    source: Facts = field(default_factory=dict)
    machine: Facts = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    calibration: Facts | None = None
    check: Facts | None = None
    evaluation: Facts | None = None
    tuning: Facts | None = None
    notes: list[str] = field(default_factory=list)
    ledger: list[Facts] = field(default_factory=list)
    layers: list[Facts] = field(default_factory=list)
    pruned: list[Facts] = field(default_factory=list)
    equalized: list[Facts] = field(default_factory=list)

    def as_json(self) -> Facts:
        """Plain data; numbers that JSON cannot hold become null."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain

    def write(self, directory: Path) -> None:
        """Write ``report.json`` and ``report.html``."""
        (directory / "report.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")
        (directory / "report.html").write_text(self.html(), encoding="utf-8")

    def html(self) -> str:
        """The page: tables, bars and ranges as inline SVG; nothing is fetched from elsewhere."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        environment.filters.update(number=number, size=size)
        template = environment.from_string(Path(__file__).with_name(_TEMPLATE).read_text())
        data = self.as_json()
        return template.render(
            r=data,
            bars=sqnr_bars(self.layers),
            ranges=range_bars(self.layers),
            floats=[x for x in self.layers if x.get("precision") == "float"],
        )


def read(directory: str | Path) -> Facts:
    """The ``report.json`` of an artifact."""
    from ..ir.errors import DataError

    path = Path(directory) / "report.json"
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error}; compile the model again"
        ) from error
    if not isinstance(data, dict):
        raise DataError(f"{str(path)!r} is not a report of qc")
    return data


@dataclass(frozen=True)
class Bar:
    """One bar of a picture, in per cent of its width."""

    name: str
    start: float
    width: float
    label: str
    kind: str = ""


def sqnr_bars(layers: Sequence[Facts]) -> list[Bar]:
    """A bar per layer with a measured SQNR, from 0 to 60 dB."""
    out = []
    for layer in layers:
        db = _number(layer.get("sqnr_db"))
        if db is not None:
            width = 100 * min(max(db, 0.0), 60.0) / 60
            kind = "bad" if db < 15 else "weak" if db < 25 else "good"
            out.append(Bar(str(layer.get("name")), 0.0, width, f"{db:.1f} dB", kind))
    return out


def range_bars(layers: Sequence[Facts]) -> list[Bar]:
    """A bar per layer with a known output range, on a signed square-root axis common to all."""
    known = [
        (str(layer.get("name")), low, high)
        for layer in layers
        if (low := _number(layer.get("low"))) is not None
        and (high := _number(layer.get("high"))) is not None
    ]
    reach = max((max(abs(a), abs(b)) for _, a, b in known), default=0.0) or 1.0

    def at(x: float) -> float:
        return 50 + 50 * math.copysign(math.sqrt(abs(x) / reach), x)

    return [Bar(n, at(a), max(at(b) - at(a), 0.3), f"{a:.4g} … {b:.4g}") for n, a, b in known]


def number(value: object) -> str:
    """A number for a person; a dash for none."""
    n = _number(value)
    if n is None:
        return "–"
    return f"{int(n):,}" if n == int(n) and abs(n) < 1e15 else f"{n:.4g}"


def size(value: object) -> str:
    """Bytes for a person."""
    n = _number(value)
    if n is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)
