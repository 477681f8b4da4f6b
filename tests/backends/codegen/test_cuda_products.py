"""Products of two activations on a device: any shape, layout, zero points, epilogue and tile."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from compiled import compile_all
from networks import E, Net
from test_exactness import check

from qc.backends.codegen.cuda import product
from qc.backends.codegen.cuda.matrices import Matrices
from qc.backends.codegen.cuda.product import Tile, device_product, tiles_of
from qc.backends.codegen.layout import Strided
from qc.ir.graph import Value
from qc.ir.ops import integer, shape
from qc.targets import load

SHAPES = [
    (5, 8, 6), (17, 33, 19), (16, 32, 8), (40, 64, 70), (1, 7, 4), (33, 130, 64), (9, 65, 33),
    (16, 8, 8), (16, 40, 8), (17, 48, 19), (16, 1, 8),
]  # fmt: skip
ZEROS = [(120, 119), (0, 128), (0, 120), (7, 128)]
RESIDUAL = integer.Residual(150, 8, -100 * 100)
EPILOGUES = [
    E(zero_point=128),
    E("uint16", high=65535, zero_point=3000),
    E("float32"),
    E("int32"),
    E(zero_point=100, residual=RESIDUAL, table=True),
]


def operands(n: Net, rows: int, depth: int, columns: int, beside: bool) -> tuple[Value, Value]:
    """Codes of two heads of two samples; ``beside``: columns of the second one are contiguous."""
    a = n.codes(2, 2, rows, depth)
    if beside:
        return a, n.codes(2, depth, columns) if rows % 2 else n.codes(2, 2, depth, columns)
    return a, n.add(shape.Transpose((0, 1, 3, 2)), n.codes(2, 2, columns, depth))


def products(n: Net, beside: bool) -> None:
    """Every shape, with zero points and epilogues in turn."""
    for i, size in enumerate(SHAPES):
        (az, bz), e = ZEROS[i % len(ZEROS)], EPILOGUES[i % len(EPILOGUES)]
        a, b = operands(n, *size, beside)
        bias = n.const(n.rng.integers(-3000, 3000, size[2]).astype(np.int32))
        factor = n.const(np.array([0.5 / size[1]], np.float32))
        extra = [n.codes(1, 2, size[0], size[2]), n.table()] if e.residual else []
        y = n.add(integer.QMatMul(az, bz, e), a, b, bias, factor, *extra)
        n.out(y) if e.dtype != "uint8" else n.real(y)


@pytest.mark.parametrize(
    ("target", "seed"), [("cuda", 0), ("cuda", 1), ("cuda", 2), ("cuda-sm75", 3)]
)
def test_any_tile(target: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, chosen = np.random.default_rng(seed), []

    def anyone(matrices: Matrices, features: frozenset[str]) -> list[Tile]:
        found = tiles_of(matrices, features)
        chosen.append(found[rng.integers(len(found))])
        return chosen[-1:]

    if seed:  # the first one takes the estimates'
        monkeypatch.setattr(product, "tiles_of", anyone)
    networks = {"below": lambda n: products(n, False), "beside": lambda n: products(n, True)}
    compiled = compile_all(target, networks, tmp_path / "out")
    for name in networks:
        check(compiled, name)
    assert bool(seed) == (len(set(chosen)) > 2)


def test_which_products_have_a_kernel() -> None:
    cuda, turing = (load(name).features for name in ("cuda", "cuda-sm75"))
    op, out = integer.QMatMul(), Strided.dense("uint8", (64, 64))
    a, b = Strided.dense("uint8", (64, 32)), Strided.dense("uint8", (32, 64))
    labels = {}
    for name, views in {
        "beside": (a, b),
        "below": (a, Strided.dense("uint8", (64, 32)).transposed((1, 0))),
        "apart": (a, Strided("uint8", (32, 64), (128, 2))),
        "turned": (Strided.dense("uint8", (32, 64)).transposed((1, 0)), b),
        "wide": (Strided.dense("uint16", (64, 32)), b),
    }.items():
        found = [device_product(op, views, out, f) for f in (cuda, turing)]
        labels[name] = [None if k is None else k.label for k in found]
    both, none = ["imma_product", "dp4a_product"], [None, None]
    assert labels == {"beside": both, "below": both, "apart": none, "turned": none, "wide": none}
    row = (Strided.dense("uint8", (1, 32)), b)
    kernel = device_product(op, row, Strided.dense("uint8", (1, 64)), cuda)
    assert kernel is not None
    assert kernel.label == "dp4a_product", "a row leaves tensor cores idle"
