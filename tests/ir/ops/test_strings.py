"""Strings: ops, text form, and that they are no shapes."""

import numpy as np
import pytest

from qc.ir import Graph, TensorType, ops, parse
from qc.ir.errors import VerifyError
from qc.ir.evaluate import evaluate
from qc.ir.verify import verify

WORDS = np.array(["Monday", "tuesday", "MONDAY"], object)


def run(op, *arrays):
    graph = Graph("g")
    types = [TensorType("string", a.shape) for a in arrays]
    ins = [graph.input(f"x{i}", t) for i, t in enumerate(types)]
    graph.outputs = list(graph.add(op, ins).outputs)
    verify(graph)
    assert str(parse(str(graph))) == str(graph)
    return list(evaluate(graph, {f"x{i}": a for i, a in enumerate(arrays)}).values())


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (ops.StringNormalizer("LOWER", True, ("Monday",)), ["tuesday", "monday"]),
        (ops.StringNormalizer("UPPER", False, ("monday",)), ["TUESDAY"]),
        (ops.StringNormalizer(), ["Monday", "tuesday", "MONDAY"]),
        (ops.StringNormalizer("NONE", False, ("monday", "TUESDAY")), [""]),
    ],
)
def test_normalizer(op, expected):
    assert run(op, WORDS)[0].tolist() == expected
    assert run(op, WORDS[None])[0].tolist() == [expected]


def test_concat_broadcasts():
    (y,) = run(ops.StringConcat(), WORDS[:2, None], np.array(["!", "?"], object))
    assert y.tolist() == [["Monday!", "Monday?"], ["tuesday!", "tuesday?"]]


@pytest.mark.parametrize(
    ("op", "parts", "counts"),
    [
        (ops.StringSplit(), [["a", "b  c"], ["d", ""]], None),
        (ops.StringSplit(" "), [["a", "b", "", "c"], ["d", "", "", ""]], [4, 1]),
    ],
)
def test_split(op, parts, counts):
    if counts is None:
        op, counts = ops.StringSplit(maxsplit=1), [2, 1]
    y, n = run(op, np.array(["a b  c", "d"], object))
    assert (y.tolist(), n.tolist()) == (parts, counts)


def test_split_of_nothing():
    y, n = run(ops.StringSplit(), np.zeros((0,), object))
    assert (y.shape, n.shape) == ((0, 0), (0,))


def test_full_match():
    assert run(ops.RegexFullMatch("(?i)monday"), WORDS)[0].tolist() == [True, False, True]
    with pytest.raises(VerifyError, match="pattern"):
        run(ops.RegexFullMatch("("), WORDS)


def test_numbers_are_not_strings():
    graph = Graph("g")
    x = graph.input("x", TensorType("float32", (2,)))
    with pytest.raises(VerifyError, match="holds no strings"):
        graph.add(ops.StringConcat(), [x, x])


def test_constants_stand_inline():
    graph = Graph("g")
    x = graph.input("x", TensorType("string", (3,)))
    graph.outputs = [graph.add(ops.Equal(), [x, graph.constant(WORDS, "w")]).output]
    again = parse(str(graph))
    verify(again)
    assert evaluate(again, {"x": WORDS[::-1]})[again.outputs[0].name].tolist() == [0, 1, 0]
