"""Attention as one op is what its parts are one after another."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError
from qc.ir.evaluate import evaluate
from qc.ir.ops.integer import Epilogue
from qc.ir.text import parse
from qc.ir.types import type_of

RNG = np.random.default_rng(0)
ROWS, SIZE, CAPACITY = 2, 4, 6


def apply(op, *arrays):
    """The graph of one op, and what it gives."""
    graph, ins = Graph("g"), []
    for i, a in enumerate(arrays):
        ins.append(None if a is None else graph.input(f"x{i}", type_of(a)))
    graph.outputs = [graph.add(op, ins).output]
    feed = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    return graph, next(iter(evaluate(graph, feed).values()))


def test_of_reals():
    q, k, v = (RNG.normal(size=(3, *s)).astype(np.float32)
               for s in ((ROWS, SIZE), (SIZE, CAPACITY), (CAPACITY, SIZE)))  # fmt: skip
    place, scale = np.array([3, 4]), np.array(0.5, np.float32)
    seen, low = np.tri(CAPACITY, dtype=bool)[place], np.array(-np.inf, np.float32)
    op = ops.CachedAttention(steps=(ops.Mul(), ops.Where()))
    graph, got = apply(op, q, k, v, place, None, None, None, None, scale, seen, low)
    powers = np.exp(np.matmul(q, k) / 2) * seen
    want = np.matmul(powers / powers.sum(-1, keepdims=True), v)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert parse(str(graph)) == graph
    v[:, 5] = 1e30  # beyond both positions
    _, again = apply(op, q, k, v, place, None, None, None, None, scale, seen, low)
    assert np.array_equal(got, again)


def test_of_codes():
    q, k, v = (RNG.integers(0, 256, s, np.uint8)
               for s in ((ROWS, SIZE), (SIZE, CAPACITY), (CAPACITY, SIZE)))  # fmt: skip
    mask = np.where(np.tri(CAPACITY)[[3, 5]], 0, -1e9).astype(np.float32)
    scores = ops.QMatMul(128, 120, Epilogue("float32"))
    codes = ops.Quantize((1 / 255,), (0,))
    product = ops.QMatMul(0, 131, Epilogue("uint8", 127))
    op = ops.CachedAttention(scores, (ops.Add(),), codes, product)
    factors = [np.array([m], np.float32) for m in (1e-3, 4e-3)]
    ins = (q, k, v, np.array([3, 5]), None, factors[0], None, factors[1], mask)
    graph, got = apply(op, *ins)
    assert str(graph.outputs[0].type) == "uint8[2,4]"
    real = np.matmul(q.astype(int) - 128, k.astype(int) - 120) * np.float32(1e-3) + mask
    powers = np.exp(real - real.max(-1, keepdims=True))
    weights = np.rint(powers / powers.sum(-1, keepdims=True) * 255)
    want = np.rint(np.matmul(weights, v.astype(int) - 131) * 4e-3) + 127
    assert np.abs(got.astype(int) - want.clip(0, 255)).max() <= 1
    assert len(set(got.ravel())) > 3
    assert parse(str(graph)) == graph


def test_positions_are_those_of_the_rows():
    shapes = ((ROWS, SIZE), (SIZE, CAPACITY), (CAPACITY, SIZE))
    ins = [np.zeros(s, np.float32) for s in shapes]
    with pytest.raises(VerifyError, match="positions do not fit"):
        apply(ops.CachedAttention(), *ins, np.array([3]))
    with pytest.raises(VerifyError, match="positions do not fit"):
        apply(ops.CachedAttention(), *ins[:2], ins[2][1:], np.array([3, 4]))
