"""Patterns are matched as written: operands' order, shared values, privacy, constants."""

import numpy as np
from graphs import Builder

from qc.ir import verify
from qc.ir.graph import Graph
from qc.ir.ops import OPS
from qc.ir.rewrite import Rule, const, p, rewrite

SILU = Rule("silu", p.Mul(p.x, p.Sigmoid(p.x)), lambda m: m.make(OPS["Silu"](), m["x"]))


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def test_commutative_operands_match_in_either_order() -> None:
    for flip in (False, True):
        b = Builder((1, 4))
        s = b.op("Sigmoid", b.x)
        b.done(b.op("Mul", *((s, b.x) if flip else (b.x, s))))
        assert rewrite(b.graph, [SILU]) == {"silu": 1}
        assert ops(b.graph) == ["Silu"]
        verify(b.graph)


def test_the_same_variable_binds_the_same_value() -> None:
    b = Builder((1, 4))
    b.done(b.op("Mul", b.op("Neg", b.x), b.op("Sigmoid", b.x)))
    assert not rewrite(b.graph, [SILU])


def test_a_result_that_others_read_stays() -> None:
    b = Builder((1, 4))
    s = b.op("Sigmoid", b.x)
    b.done(b.op("Mul", b.x, s), b.op("Abs", s))
    assert not rewrite(b.graph, [SILU])
    b = Builder((1, 4))
    s = b.op("Sigmoid", b.x)
    b.done(b.op("Mul", b.x, s), s)
    assert not rewrite(b.graph, [SILU])


def test_a_value_shared_inside_the_match_is_fine() -> None:
    rule = Rule(
        "square", p.Add(p.Mul(p.Neg(p.x), p.Neg(p.x)), 1.0), lambda m: m.make(OPS["Abs"](), m["x"])
    )
    b = Builder((1, 4))
    n = b.op("Neg", b.x)
    b.done(b.op("Add", b.op("Mul", n, n), b.const([1.0])))
    assert rewrite(b.graph, [rule]) == {"square": 1}


def test_numbers_and_constants() -> None:
    rule = Rule("scale", p.Mul(p.x, const("c")), lambda m: m["x"] if m.scalar("c") == 2 else None)
    for value, hit in ((2.0, True), (3.0, False)):
        b = Builder((1, 4))
        b.done(b.op("Relu", b.op("Mul", b.x, b.const(np.full(4, value)))))
        assert bool(rewrite(b.graph, [rule])) is hit
    b = Builder((1, 4))
    b.done(b.op("Mul", b.x, b.x))
    assert not rewrite(b.graph, [rule])


def test_a_variadic_op_with_more_operands_does_not_match() -> None:
    rule = Rule("max", p.Max(p.x, const("c")), lambda m: m["x"])
    b = Builder((1, 4))
    b.done(b.op("Max", b.x, b.const([1.0]), b.op("Neg", b.x)))
    assert not rewrite(b.graph, [rule])


def test_origins_record_the_pass() -> None:
    b = Builder((1, 4))
    b.done(b.op("Mul", b.x, b.op("Sigmoid", b.x), names=("y",)))
    rewrite(b.graph, [SILU], "canonicalize")
    node = b.graph.nodes[0]
    assert node.origin.source == "y"
    assert node.origin.passes == ("canonicalize",)
    assert b.graph.outputs[0].name == "y"
