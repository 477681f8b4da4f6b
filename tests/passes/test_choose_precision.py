"""Float stays where it is faster, region by region; measured decisions are remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, Value, evaluate
from qc.ir.errors import PreconditionError
from qc.passes import Calibrate, Canonicalize, Context, FoldIntegers, PassManager, QuantizeStatic
from qc.passes.choose_precision import ChoosePrecision
from qc.passes.fold_dynamic import FoldDynamic
from qc.passes.quantize_dynamic import QuantizeDynamic
from qc.passes.recipe import load_recipe

Times = Callable[[str, str], float]
"""Seconds by op and node name."""


@dataclass
class Scripted:
    """A cost that a test makes up."""

    times: Times
    measured: bool = True
    compiles: bool = True
    stored: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: int = 0

    def seconds(self, graph: Graph) -> dict[str, float] | None:
        self.asked += 1
        total: dict[str, float] = {}
        for node in graph.nodes:
            total[node.name] = total.get(node.name, 0.0) + self.times(node.op.name, node.name)
        return total if self.compiles else None

    def recall(self, key: str) -> dict[str, str] | None:
        return self.stored.get(key)

    def remember(self, key: str, decision: Mapping[str, str]) -> None:
        self.stored[key] = dict(decision)


def by_op(slow: set[str], factor: float = 2.0) -> Times:
    """A microsecond for every node, ``factor`` of them for some ops."""
    return lambda op, name: 1e-6 * (factor if op in slow else 1.0)


def static(
    b: Builder, output: Value, cost: Scripted | None, **options: float
) -> tuple[Graph, Context]:
    """The integer graph after the static passes."""
    graph = b.done(output)
    context = Context(calibration=b.feeds(4), verify=True, cost=cost)
    passes = [
        Canonicalize(), Calibrate(method="min-max"), ChoosePrecision(**options),
        QuantizeStatic(), FoldIntegers(),
    ]  # fmt: skip
    return PassManager(passes).run(graph, context)[0], context


def dynamic(b: Builder, output: Value, cost: Scripted | None) -> tuple[Graph, Context]:
    """The integer graph after the dynamic passes."""
    graph = b.done(output)
    context = Context(verify=True, cost=cost)
    passes = [Canonicalize(), ChoosePrecision(), QuantizeDynamic(), FoldDynamic()]
    return PassManager(passes).run(graph, context)[0], context


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def two_regions(b: Builder) -> Value:
    """Convolutions named first and second, with an op between them that has no integer form."""
    first = b.graph.add(b.conv(b.x, 4).producer.op, [b.x, b.normal(4, 3, 3, 3)], names=["first"])
    clamped = b.graph.add(b.op("Relu", b.x).producer.op, [first.output], names=["clamp"])
    scaled = b.op("Mul", clamped.output, b.normal(1, 4, 1, 1))
    second = b.graph.add(
        b.conv(scaled, 5).producer.op, [scaled, b.normal(5, 4, 3, 3)], names=["second"]
    )
    return second.output


def test_without_a_cost_nothing_is_decided() -> None:
    b = Builder()
    graph, context = static(b, two_regions(b), None)
    assert ops(graph).count("QConv") == 2
    assert context.chosen_float == {}


@pytest.mark.parametrize(("factor", "integers"), [(0.5, 2), (1.0, 2), (9.0, 0)])
def test_a_network_that_is_faster_in_float_stays_float(factor: float, integers: int) -> None:
    """The codes around an integer region are part of what it costs."""
    b = Builder()
    output = two_regions(b)
    cost = Scripted(lambda op, name: 0.0 if "uantize" in op else
                    1e-6 * (factor if op.startswith("Q") else 1.0))  # fmt: skip
    graph, context = static(b, output, cost)
    assert ops(graph).count("QConv") == integers
    assert ops(graph).count("Conv") == 2 - integers
    for name, why in context.chosen_float.items():
        assert context.why_float[name] == why
        assert "times as fast here (measured: " in why


def test_quantizing_and_dequantizing_count() -> None:
    b = Builder()
    cost = Scripted(by_op({"Quantize", "Dequantize"}, 50.0))
    graph, context = static(b, two_regions(b), cost)
    assert "QConv" not in ops(graph)
    assert {"first", "second"} == context.chosen_float.keys()


def test_regions_are_decided_one_by_one() -> None:
    b = Builder()

    def times(op: str, name: str) -> float:
        if op == "QConv":
            return 5e-5 if name == "second" else 4e-6
        return 1e-5 if op == "Conv" else 1e-6

    cost = Scripted(times)
    graph, context = static(b, two_regions(b), cost)
    assert "second" in context.chosen_float
    assert "first" not in context.chosen_float
    assert [n.name for n in graph.nodes if n.op.name == "QConv"] == ["first"]
    assert [n.name for n in graph.nodes if n.op.name == "Conv"] == ["second"]
    feed = b.feeds(1)[0]
    real, got = evaluate(b.graph, feed), evaluate(graph, feed)
    for name, array in real.items():
        assert np.abs(array - got[name]).max() < 0.1 * np.abs(array).max()


def test_an_estimate_must_be_clear() -> None:
    for measured in (True, False):
        b = Builder()
        cost = Scripted(lambda op, name: {"QConv": 2.4e-6, "Conv": 2e-6}.get(op, 0.0), measured)
        _, context = static(b, two_regions(b), cost)
        assert ("first" in context.chosen_float) == measured
    b = Builder()
    cost = Scripted(by_op({"QConv", "Quantize", "Dequantize"}, 9.0), measured=False)
    _, context = static(b, two_regions(b), cost)
    assert "(estimated: " in context.chosen_float["first"]
    assert cost.stored == {}, "only what was measured is worth remembering"


def test_what_was_measured_is_remembered() -> None:
    cost = Scripted(by_op({"QConv", "Quantize", "Dequantize"}, 9.0))
    for turn in range(2):
        b = Builder()
        _, context = static(b, two_regions(b), cost)
        assert {"first", "second"} <= context.chosen_float.keys()
        assert cost.asked == 2, f"turn {turn}: two graphs are measured once"
    assert len(cost.stored) == 1
    b = Builder()
    dynamic(b, two_regions(b), cost)
    assert len(cost.stored) == 2, "static and dynamic codes are different questions"


def test_graphs_without_code_are_left_to_code_generation() -> None:
    b = Builder()
    cost = Scripted(by_op({"QConv"}, 9.0), compiles=False)
    graph, context = static(b, two_regions(b), cost)
    assert context.chosen_float == {}
    assert ops(graph).count("QConv") == 2


def test_layers_that_share_an_input_are_decided_together() -> None:
    """One of two is much faster in integers, but both need the same codes."""

    def build() -> tuple[Builder, Value]:
        b = Builder()
        op = b.conv(b.x, 4).producer.op
        left = b.graph.add(op, [b.x, b.normal(4, 3, 3, 3)], names=["left"]).output
        right = b.graph.add(op, [b.x, b.normal(4, 3, 3, 3)], names=["right"]).output
        return b, b.op("Add", left, right)

    def times(op: str, name: str) -> float:
        if op == "DynamicQuantize":
            return 100e-6
        return 60e-6 if op == "Conv" and name == "left" else 10e-6

    b, output = build()
    graph, context = dynamic(b, output, Scripted(times))
    assert {"left", "right"} == context.chosen_float.keys()
    assert "DynamicQuantize" not in ops(graph)
    b, output = build()
    graph, context = dynamic(b, output, Scripted(lambda op, n: 99e-6 if op == "Conv" else 10e-6))
    assert context.chosen_float == {}
    assert ops(graph).count("DynamicQuantize") == 1


def test_a_clamp_belongs_to_its_layer() -> None:
    """In float it is fused and costs nothing: its time in the integer network counts."""
    b = Builder()
    output = b.op("Relu", b.conv(b.x, 4))

    class Fused(Scripted):
        """A clamp costs something in the integer network only."""

        def seconds(self, graph: Graph) -> dict[str, float] | None:
            integer = any(n.op.name == "QConv" for n in graph.nodes)
            clamp = 6e-6 if integer else 0.0
            cost = {"Conv": 10e-6, "Relu": clamp, "QConv": 8e-6}
            return {
                name: sum(cost.get(n.op.name, 0.0) for n in graph.nodes if n.name == name)
                for name in {n.name for n in graph.nodes}
            }

    _, context = dynamic(b, output, Fused(by_op(set())))
    assert len(context.chosen_float) == 2, "the layer and its clamp"


def test_other_nodes_of_a_dynamic_network_say_why_they_are_float() -> None:
    b = Builder()
    _, context = dynamic(b, b.op("Sigmoid", b.conv(b.x, 4)), None)
    assert any("ranges are known at run time only" in w for w in context.why_float.values())


@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_shipped_recipes_decide_before_they_quantize(recipe: str) -> None:
    names = [p.name for p in load_recipe(recipe).passes]
    quantize = next(i for i, n in enumerate(names) if n.startswith("quantize"))
    assert names[quantize - 1] == "choose-precision"


def test_factors_are_checked() -> None:
    for options in ({"measured": 0.0}, {"estimated": -1.0}, {"measured": float("nan")}):
        with pytest.raises(PreconditionError, match="must be above zero"):
            ChoosePrecision(**options)
