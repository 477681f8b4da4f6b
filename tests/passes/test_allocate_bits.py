"""Bits by layer: within a budget, obeyed by quantize, and raised until an accuracy is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from graphs import Builder

from qc.ir import Graph, evaluate
from qc.ir.errors import PassError, PreconditionError
from qc.ir.ops.quantize import Quantize
from qc.ir.stored import code_bits
from qc.passes import Context, PassManager
from qc.passes.allocate_bits import AllocateBits
from qc.passes.ledger import Row
from qc.passes.measure import sqnr_db, weight_bytes
from qc.passes.recipe import load_recipe


def uneven() -> Builder:
    """Layers and maps of unlike sizes; the weights of the small last one have a long tail."""
    b = Builder((1, 8, 8, 8), seed=2)
    x = b.op("Relu", b.conv(b.x, 24))
    x = b.op("Relu", b.conv(x, 48, stride=2))
    x = b.op("Relu", b.conv(x, 8, 1))
    w = b.const(0.2 * b.rng.standard_t(1, (6, 8, 1, 1)), "w")
    b.done(b.op("Conv", x, w, b.normal(6)))
    return b


@dataclass
class Sqnr:
    """An accuracy that is how many dB the outputs fall below 40."""

    graph: Graph
    feeds: list[dict[str, np.ndarray]]
    allowed: float
    seen: list[bool] = field(default_factory=list)

    def drop(self, graph: Graph) -> float:
        self.seen.append("integer" in graph.properties)
        real, found = (
            [a for f in self.feeds for a in evaluate(g, f).values()] for g in (self.graph, graph)
        )
        return 40.0 - min(sqnr_db(real, found), 60.0)


def compressed(
    b: Builder, recipe: str = "w4a4", accuracy: float | None = None, **options: object
) -> tuple[Graph, Context, Row]:
    """The integer network, what was decided, and the ledger's row of the decision."""
    feeds = b.feeds(12)
    context = Context(calibration=feeds)
    if accuracy is not None:
        context.accuracy = Sqnr(b.graph, feeds, accuracy)
    own = AllocateBits(**options)
    passes = [own if p.name == own.name else p for p in load_recipe(recipe).passes]
    graph, ledger = PassManager(passes).run(b.graph, context)
    return graph, context, next(r for r in ledger.rows if r.name == "allocate-bits")


def quality(b: Builder, graph: Graph) -> float:
    feeds = b.feeds(8)
    real, found = ([a for f in feeds for a in evaluate(g, f).values()] for g in (b.graph, graph))
    return sqnr_db(real, found)


def layers(graph: Graph) -> list[tuple[int, int]]:
    """Size and bits of the weights of every layer."""
    weights = [n.operands[1].data for n in graph.nodes if n.op.name in ("QConv", "QMatMul")]
    return [(w.size, code_bits(w)) for w in weights]


@pytest.mark.parametrize("mean", [2.8, 4.5, 6.2])
def test_quantize_obeys_and_the_budget_is_met(mean: float) -> None:
    b = uneven()
    graph, context, row = compressed(b, weights=mean)
    sizes, bits = np.transpose(layers(graph))
    assert list(context.widths.weights.values()) == bits.tolist()
    assert len(set(bits.tolist())) > 1
    assert mean - 0.6 < (sizes * bits).sum() / sizes.sum() <= mean
    assert row.statistics["weights_bits"] == round((sizes * bits).sum() / sizes.sum(), 3)
    assert row.rewrites == 0


def test_activations_are_allocated_too() -> None:
    b = uneven()
    graph, context, row = compressed(b, activations=4.7)
    assert 4.2 < row.statistics["activations_bits"] <= 4.7
    assert set(context.widths.weights.values()) == {4}
    tops = [n.op.epilogue.high for n in graph.nodes[1:] if n.op.name == "QConv"][:-1]
    assert tops == [2**n - 1 for n in context.widths.activations.values()]
    assert len(set(tops)) > 1
    assert isinstance(graph.nodes[0].op, Quantize)
    assert graph.nodes[0].op.bounds == (0, 255)


def test_unequal_bits_lose_less_than_equal_ones() -> None:
    """A branch that hardly counts gives its bits away."""
    apart = []
    for options in ({}, {"weights": 4.0}):
        b = Builder((1, 8, 8, 8), seed=3)
        x = b.op("Relu", b.conv(b.x, 16))
        quiet = b.op("Conv", b.op("Relu", b.conv(x, 24)), b.normal(16, 24, 1, 1, scale=0.005))
        b.done(b.conv(b.op("Relu", b.op("Add", x, quiet)), 6))
        graph, _, _ = compressed(b, recipe="w4a8", **options)
        apart.append(quality(b, graph))
    assert apart[1] > apart[0] + 1


def test_more_to_spend_is_never_worse_by_the_curves() -> None:
    found = []
    for mean in (2.5, 3.5, 4.5, 5.5, 7.0):
        b = uneven()
        graph, _, _ = compressed(b, recipe="w4a8", weights=mean)
        found.append(quality(b, graph))
    assert found == sorted(found)


@pytest.mark.parametrize("budget", [0.7, 0.9, 9000.0])
def test_a_budget_of_bytes_is_that_of_the_ledger(budget: float) -> None:
    """At most 1 it is a fraction of what the recipe makes of it with its own bits."""
    uniform, _, _ = compressed(uneven(), recipe="w4a8")
    limit = budget * weight_bytes(uniform) if budget <= 1 else budget
    graph, context, row = compressed(uneven(), recipe="w4a8", bytes=budget)
    assert row.statistics["bytes"] == weight_bytes(graph)
    assert 0.9 * limit < weight_bytes(graph) <= limit
    assert list(context.widths.weights.values()) == [bits for _, bits in layers(graph)]


def test_more_bytes_are_never_worse() -> None:
    found = []
    for budget in (0.6, 0.8, 1.0):
        b = uneven()
        graph, _, _ = compressed(b, recipe="w4a8", bytes=budget)
        found.append(quality(b, graph))
    assert found == sorted(found)


@pytest.mark.parametrize("budget", [0.4, 2000.0])
def test_bytes_that_cannot_be_met_are_refused_with_the_least(budget: float) -> None:
    with pytest.raises(PreconditionError, match="cannot be met: the least are") as caught:
        compressed(uneven(), recipe="w4a8", bytes=budget)
    least = float(str(caught.value).split("the least are ")[1].split()[0])
    graph, _, _ = compressed(uneven(), recipe="w4a8", bytes=least)
    assert weight_bytes(graph) == least
    assert {bits for _, bits in layers(graph)} == {2}


@pytest.mark.parametrize("budget", ["bytes", "latency"])
def test_a_budget_and_an_accuracy_contradict_each_other(budget: str) -> None:
    with pytest.raises(PreconditionError, match=f"leave out {budget}, or it"):
        compressed(uneven(), accuracy=14.0, **{budget: 0.9})


@pytest.mark.parametrize("sensitivity", ["lim", "zscore"])
def test_guessed_noises_meet_the_budget_too(sensitivity: str) -> None:
    graph, _, _ = compressed(uneven(), recipe="w4a8", weights=4.5, sensitivity=sensitivity)
    sizes, bits = np.transpose(layers(graph))
    assert 3.9 < (sizes * bits).sum() / sizes.sum() <= 4.5
    assert len(set(bits.tolist())) > 1


def test_without_a_budget_nothing_is_decided() -> None:
    graph, context, row = compressed(uneven())
    assert row.statistics == {"decided": "nothing: there is no budget"}
    assert context.widths.weights == {}
    assert {bits for _, bits in layers(graph)} == {4}


def test_bits_are_raised_until_the_accuracy_is_kept() -> None:
    b = uneven()
    graph, context, row = compressed(b, accuracy=14.0)
    assert row.statistics["accuracy"] == "kept"
    assert row.statistics["drop"] <= 14.0
    mean = row.statistics["weights_bits"] + row.statistics["activations_bits"]
    assert 8.0 < mean < 14.0
    assert isinstance(context.accuracy, Sqnr)
    assert context.accuracy.drop(graph) == pytest.approx(row.statistics["drop"], abs=0.01)
    assert context.accuracy.seen[0] is False
    assert True in context.accuracy.seen
    tried = str(row.statistics["tried"]).split("; ")
    assert tried[0].startswith("w4.00 a4.00: ")
    assert len(tried) > 3


def test_what_is_kept_from_the_start_is_left_alone() -> None:
    graph, _, row = compressed(uneven(), accuracy=35.0)
    assert {bits for _, bits in layers(graph)} == {4}
    assert len(str(row.statistics["tried"]).split("; ")) == 2


def test_layers_stay_float_where_8_bits_are_not_enough() -> None:
    graph, context, row = compressed(uneven(), recipe="w8a8", accuracy=-2.0)
    assert row.statistics["accuracy"] == "kept"
    floats = [n.name for n in graph.nodes if n.op.name == "Conv"]
    assert 0 < len(floats) == row.statistics["float"] < 4
    assert sorted(context.chosen_float) == sorted(floats)
    assert "do not keep the accuracy" in context.chosen_float[floats[0]]


def test_what_cannot_be_kept_ends_with_the_best_there_is() -> None:
    graph, _, row = compressed(uneven(), recipe="w8a8", accuracy=-100.0)
    assert row.statistics["accuracy"] == "not kept"
    assert row.statistics["float"] == 4
    assert [n.op.name for n in graph.nodes].count("Conv") == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "4 9"}, "candidates = '4 9' must be numbers from 2 to 8"),
        ({"candidates": "four"}, "candidates = 'four' must be numbers from 2 to 8"),
        ({"weights": 1.5}, "weights = 1.5 cannot be met with candidates .*: the least is 2"),
        ({"samples": 0}, "samples = 0 must be above zero"),
        ({"bytes": 0}, "bytes = 0 must be above zero"),
        ({"bytes": 0.5, "weights": 4.0}, "give weights or bytes, not both"),
        ({"latency": 0}, "latency = 0 must be above zero"),
        ({"latency": 0.9, "bytes": 0.9}, "give bytes or latency, not both"),
        ({"sensitivity": "limb"}, "'limb' is unknown; did you mean 'lim'"),
        ({"sensitivity": "lim", "activations": 4.0}, "'lim' knows weights only"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PreconditionError, match=message):
        AllocateBits(**options)


def test_it_needs_quantize_behind_it() -> None:
    b = uneven()
    passes = [*load_recipe("w4a4").passes[:-3], AllocateBits(weights=4.0)]
    with pytest.raises(PassError, match="decides for quantize, which does not follow"):
        PassManager(passes).run(b.graph, Context(calibration=b.feeds(4)))
