"""A small attention with rotary pairs and heads of keys that several heads of queries share."""

from __future__ import annotations

import numpy as np
from graphs import Builder

from qc.ir import Graph, Value

TOKENS, WIDTH = 6, 8


def attention(
    pairs: int = 2, kv: int = 2, repeat: int = 2, half: bool = False, spread: float = 1.0
) -> Graph:
    """Heads of ``2 * pairs`` channels; ``half``: a pair lies half a head apart, else together.

    A quarter of the pairs of keys, others in each head, are ``spread`` times as large.
    """
    b = Builder((1, TOKENS, WIDTH))
    d = 2 * pairs
    size = np.ones((kv, pairs))
    for row in size:
        row[b.rng.choice(pairs, pairs // 4, replace=False)] = spread
    size = (np.tile(size, 2) if half else np.repeat(size, 2, 1)).ravel()
    angles = np.outer(np.arange(TOKENS), 100.0 ** -(np.arange(pairs) / pairs))
    tables = [b.const(f(angles)[:, None, :], f"{f.__name__}") for f in (np.cos, np.sin)]
    query = _rotated(b, b.op("MatMul", b.x, b.normal(WIDTH, kv * repeat * d)), tables, half, pairs)
    w = b.const(b.rng.normal(0, 0.3, (WIDTH, kv * d)) * size, "wk")
    key = _rotated(b, b.op("MatMul", b.x, w), tables, half, pairs)
    value = b.op("Reshape", b.op("MatMul", b.x, b.normal(WIDTH, kv * d)), shape=(1, TOKENS, kv, d))
    key, value = (_repeated(b, v, kv, repeat, d) for v in (key, value))
    query = b.op("Transpose", query, perm=(0, 2, 1, 3))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=(0, 2, 3, 1)), names=("scores",))
    chances = b.op("Softmax", b.op("Mul", scores, b.const(d**-0.5)))
    mixed = b.op("MatMul", chances, b.op("Transpose", value, perm=(0, 2, 1, 3)), names=("mixed",))
    flat = b.op("Transpose", mixed, perm=(0, 2, 1, 3))
    flat = b.op("Reshape", flat, shape=(1, TOKENS, kv * repeat * d))
    return b.done(b.op("MatMul", flat, b.normal(kv * repeat * d, WIDTH), names=("out",)))


def _rotated(b: Builder, x: Value, tables: list[Value], half: bool, pairs: int) -> Value:
    """Pairs of channels turned by the angles of their token."""
    cos, sin = tables
    heads = x.shape[-1] // (2 * pairs)
    split = (2, pairs) if half else (pairs, 2)
    grid = b.op("Reshape", x, shape=(1, TOKENS, heads, *split))
    axis = 3 if half else 4
    one, two = (b.op("Gather", grid, _index(b, i), axis=axis) for i in (0, 1))
    left = b.op("Sub", b.op("Mul", one, cos), b.op("Mul", two, sin))
    right = b.op("Add", b.op("Mul", one, sin), b.op("Mul", two, cos))
    parts = [b.op("Unsqueeze", v, axes=(axis,)) for v in (left, right)]
    whole = b.op("Concat", *parts, axis=axis)
    return b.op("Reshape", whole, shape=(1, TOKENS, heads, 2 * pairs))


def _index(b: Builder, i: int) -> Value:
    return b.graph.constant(np.asarray(i, np.int64), "i")


def _repeated(b: Builder, x: Value, kv: int, repeat: int, d: int) -> Value:
    wide = b.op("Unsqueeze", x, axes=(3,))
    wide = b.op("Expand", wide, shape=(1, TOKENS, kv, repeat, d))
    return b.op("Reshape", wide, shape=(1, TOKENS, kv * repeat, d))
