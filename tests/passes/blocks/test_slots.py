"""Which values number formats are for, and along which axis their blocks lie."""

from __future__ import annotations

import pytest
from attention import TOKENS, attention
from graphs import Builder

from qc.ir import Graph, Value
from qc.passes.blocks.slots import BETWEEN, NO_SUM, Slots
from qc.passes.context import Kept

ALL = {
    "weights": "mxfp4", "tables": "", "activations": "mxint8", "inputs": "mxfp8-e4m3",
    "caches": "bfp4-16", "probabilities": "",
}  # fmt: skip
NONE = dict.fromkeys(ALL, "")


def found(graph: Graph, kept: Kept | None = None, **formats: str) -> list[tuple[object, ...]]:
    slots = Slots.of(graph, (NONE | formats) if formats else ALL, kept or Kept())
    return [(s.node.op.name, s.operand, s.axis, s.length, s.what) for s in slots.found]


def test_layers_are_cut_along_what_they_sum_over() -> None:
    b = Builder((1, 3, 8, 8))
    y = b.op("ConvTranspose", b.conv(b.x, 8), b.normal(8, 5, 2, 2), strides=(2, 2))
    y = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    y = b.op("MatMul", b.linear(y, 6), b.normal(6, 4))
    assert found(b.done(y)) == [
        ("Conv", 0, 1, 3, "inputs"),
        ("Conv", 1, 1, 27, "weights"),
        ("ConvTranspose", 0, 1, 8, "activations"),
        ("ConvTranspose", 1, 0, 8, "weights"),
        ("Gemm", 0, 1, 5, "activations"),
        ("Gemm", 1, 1, 5, "weights"),
        ("MatMul", 0, 1, 6, "activations"),
        ("MatMul", 1, 0, 6, "weights"),
    ]


@pytest.mark.parametrize(
    ("channels", "rows", "size"), [(3, True, 17), (32, False, 153), (48, True, 238)]
)
def test_taps_fill_blocks_that_channels_do_not(channels: int, rows: bool, size: int) -> None:
    """27 elements are a block; 32 channels are one for each tap; 9 x 48 are 13.5, not 9 x 2."""
    b = Builder((1, channels, 8, 8))
    slots = Slots.of(b.done(b.conv(b.x, 8)), NONE | {"weights": "mxfp4"}, Kept()).found
    assert [(s.rows, s.bytes) for s in slots] == [(rows, 8 * size)]


def test_transposed_operands_of_a_gemm() -> None:
    b = Builder((5, 7))
    graph = b.done(b.op("Gemm", b.x, b.normal(5, 4), trans_a=True))
    assert [(o, axis) for _, o, axis, *_ in found(graph)] == [(0, 0), (1, 0)]


def cached(graph: Graph) -> list[tuple[str, int, int, bool]]:
    slots = Slots.of(graph, NONE | {"caches": "bfp4-16"}, Kept())
    return [(s.value.name, s.axis, s.length, s.rows) for s in slots.found]


def test_rows_of_tokens_before_heads_are_repeated() -> None:
    """Keys and values ``[1, tokens, 2, 4]``: 8 numbers of a token lie together."""
    graph = attention()
    slots = Slots.of(graph, NONE | {"caches": "bfp4-16"}, Kept()).found
    assert [(s.value.shape, s.axis, s.length, s.rows) for s in slots] == [
        ((1, TOKENS, 2, 4), 2, 8, True),
        ((1, TOKENS, 2, 4), 2, 8, True),
    ]
    assert [s.node.op.name for s in slots] == ["Unsqueeze", "Unsqueeze"]


def per_head(b: Builder) -> tuple[Value, Value, Value]:
    """Queries, keys and values of 2 heads of 4 channels, made with heads before tokens."""
    w = [b.normal(2, 8, 4) for _ in range(3)]
    query, key, value = (b.op("MatMul", b.x, v) for v in w)
    return query, key, value


def test_rows_within_heads_where_heads_come_first() -> None:
    b = Builder((1, 6, 8))
    query, key, value = per_head(b)
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=(0, 2, 1)))
    graph = b.done(b.op("MatMul", b.op("Softmax", scores), value))
    assert [(s[1:]) for s in cached(graph)] == [(2, 4, True), (2, 4, True)]
    assert [s[0] for s in cached(graph)] == [key.name, value.name]


def test_keys_that_are_made_transposed() -> None:
    """``[heads, channels, tokens]``: blocks lie along the channels, before the last axis."""
    b = Builder((2, 6, 8))
    turned = b.op("Relu", b.op("Transpose", b.x, perm=(0, 2, 1)))
    graph = b.done(b.op("MatMul", b.op("Relu", b.x), turned))
    assert cached(graph) == [(turned.name, 1, 8, False)]


def test_as_many_tokens_as_channels_are_told_apart() -> None:
    b = Builder((1, 4, 8))
    query, key, _ = per_head(b)
    graph = b.done(b.op("MatMul", query, b.op("Transpose", key, perm=(0, 2, 1))))
    assert [s[1:] for s in cached(graph)] == [(2, 4, True)]


def test_without_a_format_for_caches_both_operands_are_activations() -> None:
    graph = attention()
    wanted = [("MatMul", 0, 3), ("MatMul", 1, 2), ("MatMul", 0, 3), ("MatMul", 1, 2)]
    slots = Slots.of(graph, NONE | {"activations": "mxfp4"}, Kept()).found
    inner = [s for s in slots if s.node.output.name in ("scores", "mixed")]
    assert [(s.node.op.name, s.operand, s.axis) for s in inner] == wanted


def test_depthwise_and_single_channels_stay_float() -> None:
    b = Builder((1, 1, 8, 8))
    y = b.conv(b.conv(b.x, 8), 8, group=8)
    slots = Slots.of(b.done(b.op("Relu", y)), ALL, Kept())
    assert slots.found == []
    assert list(slots.why_float.values()) == [NO_SUM, NO_SUM, BETWEEN]


def test_tables_of_embeddings_are_weights() -> None:
    b = Builder((1, 4))
    ids = b.op("Cast", b.x, to="int64")
    graph = b.done(b.op("Gather", b.normal(10, 6), ids, axis=0))
    assert found(graph) == [("Gather", 0, 1, 6, "weights")]


def test_what_a_user_keeps_float_stays() -> None:
    b = Builder((1, 8))
    y = b.op("MatMul", b.x, b.normal(8, 4), names=("first",))
    graph = b.done(b.op("MatMul", y, b.normal(4, 4), names=("second",)))
    slots = Slots.of(graph, ALL, Kept(("first",)))
    assert {s.node.name for s in slots.found} == {"second"}
    assert slots.why_float == {"first": "kept float by --keep-float"}


@pytest.mark.parametrize("what", ["weights", "activations"])
def test_only_what_has_a_format(what: str) -> None:
    b = Builder((1, 8))
    graph = b.done(b.op("MatMul", b.op("Relu", b.x), b.normal(8, 4)))
    assert [s[-1] for s in found(graph, **{what: "mxfp4"})] == [what]
