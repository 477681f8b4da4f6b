"""The report: JSON keys, one self-contained page, escaping, pictures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qc import cli
from qc.ir.errors import DataError
from qc.reporting.report import Report, number, range_bars, read, size, sqnr_bars

ROW = {
    "pass": "quantize", "kind": "lossy", "seconds": 0.5, "rewrites": 3, "parameters": 10,
    "macs": 20, "bytes": 40, "sqnr_db": 33.5, "metric": None, "statistics": {},
}  # fmt: skip
LAYERS = [
    {
        "name": "conv<1>", "op": "QConv", "precision": "int8", "low": -1.0, "high": 4.0,
        "scale": 0.02, "zero_point": 51, "sqnr_db": 41.0, "macs": 1000,
    },
    {"name": "box", "op": "Exp", "precision": "float", "reason": "loses more than 3 dB & more"},
]  # fmt: skip


class Balanced(HTMLParser):
    """Collects tags and checks that they close in order."""

    VOID = frozenset(["meta", "line", "rect", "br"])

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def report(**more: object) -> Report:
    base = Report("out", "net.onnx", "host", "int8", 1.5, 10, 20, 40, ledger=[ROW], layers=LAYERS)
    for key, value in more.items():
        setattr(base, key, value)
    return base


def test_both_files_are_written(tmp_path: Path) -> None:
    report().write(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert {
        "artifact",
        "target",
        "recipe",
        "seconds",
        "parameters",
        "macs",
        "bytes",
        "ledger",
    } <= data.keys()
    assert read(tmp_path) == data


def test_page_is_one_well_formed_offline_file() -> None:
    page = report().html()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert {"table", "svg", "style"} <= set(parser.seen)
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(", page)


def test_page_shows_ledger_layers_and_reasons() -> None:
    page = report(evaluation={
        "metric": "top1", "samples": 500, "float": 0.91, "compiled": 0.905, "drop": 0.5,
        "max_drop": 1.0,
    }).html()  # fmt: skip
    for text in (
        "quantize",
        "conv&lt;1&gt;",
        "41.0 dB",
        "loses more than 3 dB &amp; more",
        "0.905",
    ):
        assert text in page
    assert "conv<1>" not in page


def test_page_without_floats_says_so() -> None:
    assert "every layer runs in integers" in report(layers=LAYERS[:1]).html()
    assert "<svg" not in report(layers=[]).html()


SITES = [
    {"site": "norm<1>", "solver": "repq", "channels": 96, "readers": ["q", "k"], "before": 0.25,
     "after": 0.0125},
    {"site": "conv", "solver": "cross-layer", "channels": 8, "readers": ["c"], "before": None,
     "after": None},
]  # fmt: skip


def test_page_says_how_every_site_was_equalized() -> None:
    html = report(equalized=SITES).html()
    for text in ("site by site", "norm&lt;1&gt;", "repq", "q k", "0.0125", "cross-layer"):
        assert text in html
    assert "site by site" not in report().html()


def test_explain_says_how_every_site_was_equalized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(equalized=SITES).write(tmp_path)
    assert cli.main(["explain", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    (line,) = (x for x in told.splitlines() if "norm<1>" in x)
    assert line.split() == ["norm<1>", "96", "q", "k", "repq", "0.25", "0.0125"]
    report().write(tmp_path)
    assert cli.main(["explain", str(tmp_path)]) == 0
    assert "equalized channels" not in capsys.readouterr().out


def test_numbers_that_json_lacks_become_null() -> None:
    data = report(ledger=[ROW | {"sqnr_db": float("inf")}]).as_json()
    assert json.loads(json.dumps(data, allow_nan=False))["ledger"][0]["sqnr_db"] is None


def test_bars() -> None:
    bars = sqnr_bars(
        [{"name": "a", "sqnr_db": 10.0}, {"name": "b", "sqnr_db": 90.0}, {"name": "c"}]
    )
    assert [(b.name, b.width, b.kind) for b in bars] == [
        ("a", 100 / 6, "bad"),
        ("b", 100.0, "good"),
    ]
    (bar,) = range_bars([{"name": "a", "low": -1.0, "high": 4.0}])
    assert (bar.start, bar.width) == (25.0, 75.0)
    assert range_bars([{"name": "a"}]) == []


def test_numbers_for_people() -> None:
    assert [number(v) for v in (None, 1234567, 0.123456, float("nan"))] == [
        "–",
        "1,234,567",
        "0.1235",
        "–",
    ]
    assert [size(v) for v in (None, 10, 2048, 5 << 20)] == ["–", "10 B", "2.0 KiB", "5.0 MiB"]


def test_missing_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="compile the model again"):
        read(tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(DataError, match="not a report"):
        read(tmp_path)
