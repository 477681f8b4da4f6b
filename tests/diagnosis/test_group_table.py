"""What can be done to groups of coupled channels, and why not, as people see it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graphs import Builder, residual_net

from qc.backends.qdq.writer import to_onnx
from qc.cli import main
from qc.diagnosis.group_table import group_table
from qc.ir.coupling import Action, Coupling, Sites
from qc.ir.coupling.overlap import sites_of
from qc.ir.graph import Graph


def lines(graph: Graph) -> dict[str, list[str]]:
    """Cells of each row by its first weight; cells are at least two blanks apart."""
    head, _, *rows = group_table(graph).partition("\n\n")[0].splitlines()
    assert head.split()[:6] == ["channels", "delete", "permute", "scale", "shift", "rotate"]
    cells = [[c for c in row.strip().split("  ") if c] for row in rows]
    return {c[-1].split()[0]: [x.strip() for x in c[:-1]] for c in cells}


def test_a_residual_network() -> None:
    table = lines(residual_net().graph)
    assert table["w.0"] == [
        "16", "yes", "yes", "3 sites", "2 sites", "no", "rotate: op BatchNormalization"
    ]  # fmt: skip
    assert table["w.8.0"] == ["32", "yes", "yes", "yes", "no", "no", "shift, rotate: op Relu"]
    assert table["w.1"][:6] == ["3", "no", "no", "no", "no", "no"]
    assert table["w.1"][6] == "delete, permute, scale, rotate: graph input; shift: zero padding"
    assert "3 groups of 64 channels can lose some" in group_table(residual_net().graph)


def test_one_reason_for_all_is_said_once() -> None:
    b = Builder((1, 5, 3))
    b.done(b.op("MatMul", b.x, b.normal(3, 4)))
    assert lines(b.graph)["w.0"] == ["3", "no", "no", "no", "no", "no", "graph input"]


def test_sites_lie_in_the_groups_that_share_their_channels() -> None:
    """A norm separates its stream from two sites behind it; heads and their channels stay apart."""
    b = Builder((1, 5, 3))
    x = b.op("MatMul", b.x, b.normal(3, 6))
    read = []
    for _ in range(2):
        y = b.op("LayerNormalization", x, b.normal(6), b.normal(6))
        read.append(b.op("MatMul", y, b.normal(6, 8)))
    heads = b.op("Reshape", b.op("Relu", read[0]), shape=(1, 5, 2, 4))
    b.done(b.op("MatMul", heads, b.normal(4, 3)), b.op("Softmax", read[1]))
    coupling, sites = Coupling(b.graph), Sites(b.graph, Action.SCALE)
    found = {
        group.name: [s for s in within if not s.why]
        for group, within in zip(coupling.groups, sites_of(coupling, sites), strict=True)
        if len(group) > 1
    }
    assert [len(s) for s in found["w.1"]] == [6, 6]
    assert [s.name for s in found["w.1"]] == ["w.1.0", "w.4.0"]
    assert [str(p) for s in found["w.3.1"] for p in s.weights] == ["w.3.1", "w.7.0"]


def test_inspect_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(to_onnx(residual_net().graph), path)
    assert main(["inspect", str(path), "--groups"]) == 0
    assert "3 groups of 64 channels can lose some" in capsys.readouterr().out
