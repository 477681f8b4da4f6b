"""The text form round-trips, whatever the names and attributes."""

from pathlib import Path

import numpy as np
import pytest
from graphs import Builder, residual_net
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.ir import Graph, Origin, PerAxis, Quantization, TensorType, load, parse, save
from qc.ir.errors import FrontendError
from qc.ir.ops import OPS
from qc.ir.ops.integer import Epilogue, Residual
from qc.ir.text import digest, parse_type
from qc.passes import Context, PassManager
from qc.passes.recipe import load_recipe


def data_of(graph: Graph) -> dict[str, np.ndarray]:
    return {digest(v.data): v.data for v in graph.constants}


def test_float_graph_round_trips() -> None:
    graph = residual_net().graph
    again = parse(str(graph), data_of(graph))
    assert str(again) == str(graph)
    assert again == graph


def test_integer_graph_round_trips_through_files(tmp_path: Path) -> None:
    net = residual_net()
    graph, _ = PassManager(load_recipe("int8").passes).run(
        net.graph, Context(calibration=net.feeds())
    )
    save(graph, tmp_path)
    again = load(tmp_path)
    assert again == graph
    for a, b in zip(graph.constants, again.constants, strict=True):
        assert np.array_equal(a.data, b.data)


def test_the_form_is_as_documented() -> None:
    b = Builder((1, 2))
    y = b.graph.add(
        OPS["Mul"](), [b.x, b.const([0.5])], names=["y"], origin=Origin("node 1", ("canonicalize",))
    ).output
    text = str(b.done(y))
    assert text == (
        'graph "test" {\n'
        "  input %x: float32[1,2]\n"
        "  const %c: float32[1] = [0.5]\n"
        '  %y: float32[1,2] = Mul(%x, %c) @ "node 1" canonicalize\n'
        "  output %y\n"
        "}"
    )


names = st.text(min_size=1, max_size=12)
dims = st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["batch", "seq"])), max_size=4)


@given(names, names, dims)
def test_any_name_round_trips(a: str, b: str, shape: list) -> None:  # type: ignore[type-arg]
    graph = Graph(a)
    x = graph.input(a, TensorType("float32", tuple(shape)))
    y = graph.add(OPS["Relu"](), [x], names=[b], origin=Origin(b, ("one", "two"))).output
    graph.outputs = [y]
    assert parse(str(graph)) == graph


@settings(max_examples=50)
@given(st.floats(width=32, allow_nan=False), st.integers(-9, 9), st.booleans(), st.integers(1, 30))
def test_any_attribute_round_trips(scale: float, zero: int, table: bool, shift: int) -> None:
    graph = Graph("g")
    quant = Quantization((abs(scale) + 1e-6, 2.0), (zero, 0), PerAxis(1))
    q = graph.input("q", TensorType("uint8", (1, 2, 4, 4), quant))
    w = graph.constant(np.ones((3, 2, 1, 1), np.int8), "w")
    op = OPS["QConv"](
        epilogue=Epilogue(
            table=table, scale=scale, zero_point=zero, residual=Residual(5, shift, -zero)
        )
    )
    graph.outputs = [graph.add(op, [q, w, None, w]).output]
    assert parse(str(graph)) == graph


@pytest.mark.parametrize(
    "text",
    ["", "graph", 'graph "g" {\n  nonsense\n}', 'graph "g" {\n  %y: float32[1] = Nope(%x)\n}',
     'graph "g" {\n  input %x: float3[1\n}', 'graph "g" {\n  output %x\n}'],
)  # fmt: skip
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(FrontendError):
        parse(text)


def test_a_wrong_type_in_the_text_is_noticed() -> None:
    text = 'graph "g" {\n  input %x: float32[1,2]\n  %y: float32[1,3] = Relu(%x)\n  output %y\n}'
    with pytest.raises(FrontendError, match="line 3"):
        parse(text)


def test_a_missing_constant_is_said() -> None:
    graph = residual_net().graph
    with pytest.raises(FrontendError, match="const"):
        parse(str(graph), {})


def test_types() -> None:
    t = TensorType("uint8", (1, "n", 3), Quantization((0.5,), (7,)))
    assert parse_type("uint8[1,n,3]<Quantization(scale=(0.5,), zero_point=(7,))>") == t
    with pytest.raises(ValueError, match="not a type"):
        parse_type("uint8")
