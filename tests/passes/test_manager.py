"""The manager checks order first, verifies contracts, and writes the ledger."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.ir import Graph
from qc.ir.errors import ContractError, DataError, PassError, PreconditionError
from qc.ir.ops import OPS
from qc.passes import Calibrate, Canonicalize, Context, FoldBatchNorm, Kind, Pass, PassManager
from qc.passes.base import Statistics
from qc.passes.recipe import load_recipe, recipe_names
from qc.passes.table import PASSES, make_pass, pass_class, pass_names


@dataclass(frozen=True)
class Wrong(Pass):
    """Claims to be exact, but multiplies the output."""

    name: ClassVar[str] = "wrong"
    kind: ClassVar[Kind] = Kind.EXACT
    factor: float = 1.001

    def apply(self, graph: Graph, context: Context) -> Statistics:
        out = graph.outputs[0]
        factor = graph.constant(np.full(1, self.factor, np.float32))
        graph.replace(out, graph.add(OPS["Mul"](), [out, factor]).output)
        node = graph.nodes[-1]
        graph.set_inputs(node, [out, factor])
        return {"rewrites": 1}


@dataclass(frozen=True)
class Meddler(Wrong):
    """Claims to be an analysis."""

    name: ClassVar[str] = "meddler"
    kind: ClassVar[Kind] = Kind.ANALYSIS


@dataclass(frozen=True)
class Crash(Pass):
    """Fails."""

    name: ClassVar[str] = "crash"
    kind: ClassVar[Kind] = Kind.LOSSY

    def apply(self, graph: Graph, context: Context) -> Statistics:
        raise ValueError("deep inside")


def small() -> Builder:
    b = Builder((1, 4))
    b.done(b.op("Relu", b.x))
    return b


def test_an_exact_pass_that_is_not_is_caught() -> None:
    with pytest.raises(ContractError, match="wrong is exact but changed"):
        PassManager([Wrong()]).run(small().graph, Context(verify=True))


def test_an_analysis_that_edits_is_caught() -> None:
    with pytest.raises(ContractError, match="meddler is an analysis"):
        PassManager([Meddler()]).run(small().graph, Context(verify=True))


def test_outputs_that_are_not_finite_are_caught() -> None:
    lossy = type("Infinite", (Wrong,), {"kind": Kind.LOSSY})
    with pytest.raises(ContractError, match="finite"):
        PassManager([lossy(factor=np.inf)]).run(small().graph, Context(verify=True))


def test_a_failing_pass_names_those_before_it() -> None:
    with pytest.raises(PassError, match="crash failed after load, canonicalize: deep inside"):
        PassManager([Canonicalize(), Crash()]).run(small().graph, Context())


def test_order_is_checked_before_anything_runs() -> None:
    ran: list[str] = []

    @dataclass(frozen=True)
    class Spy(Canonicalize):
        establishes: ClassVar[frozenset[str]] = frozenset()

        def apply(self, graph: Graph, context: Context) -> Statistics:
            ran.append("spy")
            return {}

    with pytest.raises(PreconditionError, match="fold-batchnorm needs a graph that is canonical"):
        PassManager([Spy(), FoldBatchNorm()]).run(small().graph, Context())
    assert not ran


def test_lowering_is_compared_with_the_simulation_before_it() -> None:
    net = small()
    lossy = type("Coarse", (Wrong,), {"kind": Kind.LOSSY})(factor=1.2)
    lower = type("Same", (Canonicalize,), {"kind": Kind.LOWERING})()
    manager = PassManager([lossy])
    graph, ledger = manager.run(net.graph, Context())
    manager.passes = [lower]
    _, ledger = manager.run(graph, Context(), ledger)
    assert ledger.rows[-1].sqnr_db == ledger.rows[-2].sqnr_db
    with pytest.raises(ContractError, match=r"brought outputs to 7\.\d dB, the simulation to 14"):
        PassManager([lossy, type("Worse", (Wrong,), {"kind": Kind.LOWERING})(factor=1.2)]).run(
            net.graph, Context()
        )


def test_a_manager_that_is_used_again_starts_afresh() -> None:
    manager = PassManager([Canonicalize()])
    manager.run(small().graph, Context(verify=True))
    other = residual_net()
    _, ledger = manager.run(other.graph, Context(calibration=other.feeds(2), verify=True))
    assert ledger.rows[-1].sqnr_db is None or ledger.rows[-1].sqnr_db > 80


def test_the_input_graph_is_untouched() -> None:
    net = residual_net()
    before = str(net.graph)
    PassManager(load_recipe("int8").passes).run(net.graph, Context(calibration=net.feeds()))
    assert str(net.graph) == before


def test_the_ledger_counts() -> None:
    net = residual_net()
    context = Context(calibration=net.feeds(), evaluate=lambda g: float(len(g.nodes)))
    _, ledger = PassManager(load_recipe("int8").passes).run(net.graph, context)
    assert [r.name for r in ledger.rows] == [
        "load", "canonicalize", "fold-batchnorm", "equalize", "calibrate", "choose-precision",
        "quantize", "fold-integers",
    ]  # fmt: skip
    first, last = ledger.rows[0], ledger.rows[-1]
    assert first.macs == last.macs == 479_552
    assert last.bytes < 0.35 * first.bytes
    assert last.sqnr_db is not None
    assert 10 < last.sqnr_db < 120
    assert first.sqnr_db is None
    assert all(r.metric is not None for r in ledger.rows)
    keys = {"pass", "kind", "seconds", "rewrites", "parameters", "macs", "bytes", "sqnr_db"}
    assert all(keys <= set(r.as_json()) for r in ledger.rows)


def test_the_same_seed_gives_the_same_graph() -> None:
    net = residual_net()
    feeds = net.feeds()
    runs = [
        str(PassManager(load_recipe("int8").passes).run(net.graph, Context(calibration=feeds))[0])
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_calibration_is_needed_and_checked() -> None:
    net = residual_net()
    passes = load_recipe("int8").passes
    with pytest.raises(DataError, match="needs calibration data"):
        PassManager(passes).run(net.graph, Context())
    with pytest.raises(DataError, match="empty"):
        PassManager(passes).run(net.graph, Context(calibration=[]))
    bad = net.feeds(2)
    bad[1]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="sample 1"):
        PassManager(passes).run(net.graph, Context(calibration=bad, samples=1))
    with pytest.raises(PreconditionError, match="did you mean 'min-max'"):
        PassManager([Canonicalize(), Calibrate(method="minmax")]).run(
            net.graph, Context(calibration=net.feeds(1))
        )


def test_every_pass_of_the_table_is_what_it_says() -> None:
    assert set(PASSES) <= set(pass_names())
    for name in PASSES:
        cls = pass_class(name)
        assert cls.name == name
        assert isinstance(cls.kind, Kind)
        assert cls.__doc__
        assert cls() == replace(cls())


def test_options_are_converted_and_checked() -> None:
    assert make_pass("quantize", {"weight-bits": "4"}).weight_bits == 4
    with pytest.raises(PreconditionError, match="did you mean 'quantize'"):
        make_pass("quantise", {})
    with pytest.raises(PreconditionError, match="did you mean 'weight_bits'"):
        make_pass("quantize", {"weight_bit": 4})
    with pytest.raises(PreconditionError, match="takes a int"):
        make_pass("quantize", {"weight_bits": "many"})


def test_recipes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert {"int8", "int8-dynamic", "float"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.description
        PassManager(recipe.passes).check_order(set())
    changed = load_recipe("int8", {"calibrate.method": "entropy"}).passes
    assert [p.method for p in changed if p.name == "calibrate"] == ["entropy"]
    with pytest.raises(PreconditionError, match="did you mean 'int8'"):
        load_recipe("int88")
    with pytest.raises(PreconditionError, match="has no pass 'calibrat'"):
        load_recipe("int8", {"calibrat.method": "mse"})
    own = tmp_path / "own.toml"
    own.write_text('[[pass]]\nname = "canonicalize"\n')
    assert [p.name for p in load_recipe(str(own)).passes] == ["canonicalize"]
    for text, what in (("x = 1", "unknown key 'x'"), ("", "no \\[\\[pass\\]\\]"), ("[", "recipe")):
        own.write_text(text)
        with pytest.raises(PreconditionError, match=what):
            load_recipe(str(own))
