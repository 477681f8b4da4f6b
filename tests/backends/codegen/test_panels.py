"""Products of two activations by dots of codes: the integers of the reference for any shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from compiled import compile_all
from networks import Net

from qc.backends.codegen import panels
from qc.backends.codegen.artifact import Artifact
from qc.backends.codegen.kernels.compile import build_module
from qc.backends.codegen.lower import lower
from qc.backends.codegen.panels import Dots, PanelProduct
from qc.backends.codegen.template import by_estimate
from qc.ir.ops import integer, shape
from qc.targets import load

E = integer.Epilogue
NARROW = Dots(8, 12, signed=True)
"""AVX-VNNI's, which a cpu with AVX512-VNNI runs too."""

SHAPES = [
    (8, 8, 8), (9, 16, 11), (65, 64, 65), (65, 65, 64), (13, 33, 10), (14, 240, 12), (130, 40, 17),
    (257, 24, 8),
]  # fmt: skip
"""Rows, columns, depth: with and without rests, more rows than an iteration has."""


def product(
    n: Net, rows: int, columns: int, depth: int, beside: bool = True,
    zeros: tuple[int, int] = (120, 7), epilogue: E | None = None, batch: tuple[int, ...] = (2, 3),
) -> None:  # fmt: skip
    """One product; ``beside``: the codes of a row of the second operand lie side by side."""
    a = n.codes(*batch, rows, depth)
    b = n.codes(*batch, depth, columns)
    if not beside:
        swap = (*range(len(batch)), len(batch) + 1, len(batch))
        b = n.add(shape.Transpose(swap), n.codes(*batch, columns, depth))
    offset = n.const(n.rng.integers(-300, 300, columns).astype(np.int32))
    factor = n.const((0.0005 * (1 + n.rng.random(columns))).astype(np.float32))
    op = integer.QMatMul(*zeros, epilogue or E(zero_point=128))
    n.out(n.add(op, a, b, offset, factor))


def alike(n: Net) -> None:
    """A second operand that all matrices share, and a table after codes of 8 bits."""
    a, b = n.codes(3, 20, 16), n.codes(16, 20)
    zeros, factor = n.const(np.zeros(20, np.int32)), n.const(np.array([0.001], np.float32))
    op = integer.QMatMul(3, 128, E(zero_point=100, table=True))
    n.out(n.add(op, a, b, zeros, factor, n.table()))


NETWORKS: dict[str, Callable[[Net], None]] = {
    f"{r} x {c} by {d}, {'beside' if beside else 'apart'}": partial(
        product, rows=r, columns=c, depth=d, beside=beside
    )
    for r, c, d in SHAPES
    for beside in (True, False)
}
TALL = {"rows": 20, "columns": 24, "depth": 21}
NETWORKS |= {
    f"zero points {zeros}": partial(product, **TALL, zeros=zeros)
    for zeros in ((0, 0), (0, 128), (255, 255), (128, 0))
}
NETWORKS |= {
    f"as {dtype}": partial(product, **TALL, epilogue=E(dtype, high=high, zero_point=zero))
    for dtype, high, zero in (("uint16", 65535, 3000), ("int32", 255, 0), ("float32", 255, 0))
}
NETWORKS |= {"one matrix": partial(product, **TALL, batch=()), "alike": alike}


def products(target: str) -> list[PanelProduct]:
    """The kernels of all networks."""
    net = Net()
    for network in NETWORKS.values():
        network(net)
    kernels = lower(net.graph, load(target).features, by_estimate).kernels.values()
    return [k for k in kernels if isinstance(k, PanelProduct)]


@pytest.mark.parametrize("target", ["x86", "x86-vnni", "avx-vnni"])
def test_the_integers_of_the_reference(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "avx-vnni":
        target = "x86-vnni"
        monkeypatch.setattr(panels, "dots_of", lambda _: NARROW)
    made = compile_all(target, NETWORKS, tmp_path / "out")
    for artifact in (made.artifact, Artifact.load(made.path, threads=2)):
        got = artifact.run(made.feed)
        for network, names in made.outputs.items():
            for name in names:
                np.testing.assert_array_equal(got[name], made.want[name], err_msg=network)


@pytest.mark.parametrize("target", ["x86", "x86-vnni"])
def test_all_of_them_have_such_kernels(target: str) -> None:
    assert len(products(target)) == len(NETWORKS)


def test_extreme_codes(tmp_path: Path) -> None:
    """All codes 255 or 0: no sum of two products may leave what an instruction adds in."""
    made = compile_all(
        "host", {"one": partial(product, **TALL, epilogue=E("int32"))}, tmp_path / "out"
    )
    for a, b in ((9.0, 9.0), (9.0, -9.0), (-9.0, 9.0)):
        feed = {k: np.full_like(v, s) for (k, v), s in zip(made.feed.items(), (a, b), strict=True)}
        (got,) = made.artifact.run(feed).values()
        codes = [255 if s > 0 else 0 for s in (a, b)]
        offset = made.artifact.run({k: np.full_like(v, 0) for k, v in feed.items()})
        base = next(iter(offset.values())) - 21 * (128 - 120) * (128 - 7)
        np.testing.assert_array_equal(got, base + 21 * (codes[0] - 120) * (codes[1] - 7))


@pytest.mark.parametrize(
    ("rows", "columns", "depth"), [(1, 64, 64), (64, 1, 64), (64, 64, 4), (64, 4096, 4096)]
)
def test_loops_serve_what_is_small_or_does_not_fit_on_the_stack(
    rows: int, columns: int, depth: int
) -> None:
    net = Net()
    product(net, rows, columns, depth, batch=())
    kernels = lower(net.graph, load("x86-vnni").features, by_estimate).kernels.values()
    assert not any(isinstance(k, PanelProduct) for k in kernels)


@pytest.mark.parametrize(("target", "dot"), [("x86", "vpmaddwd"), ("x86-vnni", "vpdpbusd")])
def test_instructions(target: str, dot: str) -> None:
    made = load(target)
    text = build_module(products(target)[0].emit("kernel").function, "kernel", made.tvm())
    words = str(text.inspect_source("asm")).split()
    assert dot in words
    assert ("vpdpbusd" in words) == (dot == "vpdpbusd")


def test_a_cpu_without_dots_has_loops() -> None:
    assert panels.dots_of(load("arm").features) is None


@pytest.mark.parametrize("dots", [Dots(16, 28, signed=True), NARROW, Dots(8, 12, signed=False)])
def test_tiles_fit_the_registers(dots: Dots) -> None:
    for kernel in products("x86-vnni"):
        tile = PanelProduct(kernel.op, kernel.ins, kernel.out, dots)
        assert tile.high * tile.wide <= dots.accumulators
        assert tile.vectors % tile.wide == 0
        assert tile.vectors * dots.lanes >= kernel.out.shape[-1]
