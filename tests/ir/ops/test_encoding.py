"""Encode and Decode: types, meaning, text, coupling, the ONNX form of both together."""

import numpy as np
import onnx
import pytest
from graphs import Builder

from qc.backends.qdq.executor import OnnxRuntimeExecutor
from qc.backends.qdq.writer import to_onnx
from qc.ir import Graph, TensorType, ops
from qc.ir.coupling import Coupling
from qc.ir.errors import BackendError, PreconditionError, VerifyError
from qc.ir.evaluate import evaluate
from qc.ir.formats import EXAMPLES, parse
from qc.ir.ops import encoding
from qc.ir.text import load, save
from qc.ir.text import parse as parse_graph
from qc.ir.types import Array
from qc.ir.unpacked import unpacked
from qc.ir.verify import verify


def simulated(shape: tuple[int, ...], name: str, axis: int) -> Graph:
    b = Builder(shape)
    packed = b.op("Encode", b.x, format=name, axis=axis)
    return b.done(b.op("Decode", packed, format=name, axis=axis, length=shape[axis]))


def numbers(shape: tuple[int, ...]) -> Array:
    """Normal numbers over a wide range, with rows of zeros and powers of two."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-20, 20, (*shape[:-1], 1)))
    x.reshape(-1)[::7] = np.exp2(rng.integers(-9, 9, x.size))[::7]
    x[0] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", EXAMPLES)
def test_both_together_round_and_agree_with_their_onnx_form(name: str, axis: int) -> None:
    x = numbers((6, 40, 5))
    graph = simulated(x.shape, name, axis)
    verify(graph)
    (found,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_array_equal(found, parse(name).round(x, axis))
    (theirs,) = OnnxRuntimeExecutor(1).open(graph)({"x": x}).values()
    np.testing.assert_array_equal(found, theirs)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_give_what_the_whole_gives(monkeypatch, axis: int) -> None:
    x = np.random.default_rng(2).standard_normal((40, 7, 33)).astype(np.float32)
    graph = simulated(x.shape, "int4-16", axis)
    (whole,) = evaluate(graph, {"x": x}).values()
    monkeypatch.setattr(encoding, "PART", 500)
    (parts,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_array_equal(parts, whole)


def test_bytes_lie_along_the_axis() -> None:
    graph = simulated((2, 40, 3), "mxfp4", 1)
    assert graph.nodes[0].output.type == TensorType("uint8", (2, 2 * 17, 3))
    assert graph.outputs[0].type == TensorType("float32", (2, 40, 3))


def packed_weights(name: str = "mxfp4") -> Graph:
    b = Builder((4, 40))
    w = b.rng.standard_normal((40, 6)).astype(np.float32)
    (data,) = ops.Encode(name, 0).eval([w])
    real = b.op("Decode", b.graph.constant(data, "w.packed"), format=name, axis=0, length=40)
    return b.done(b.op("MatMul", b.x, real))


def test_text_and_file_round_trip(tmp_path) -> None:
    graph = packed_weights()
    save(graph, tmp_path)
    assert load(tmp_path) == graph
    assert "Decode(%w.packed) {axis=0, length=40}" in str(graph)
    small = simulated((2, 8), "bfp4e5-4", 1)
    assert parse_graph(str(small)) == small


def test_packed_constants_are_unpacked_once() -> None:
    graph = packed_weights()
    plain = unpacked(graph)
    verify(plain)
    assert [n.op.name for n in plain.nodes] == ["MatMul"]
    assert "decode" in plain
    feed = {"x": np.random.default_rng(1).standard_normal((4, 40)).astype(np.float32)}
    for before, after in zip(
        evaluate(graph, feed).values(), evaluate(plain, feed).values(), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(
        OnnxRuntimeExecutor(1).open(graph)(feed)[graph.outputs[0].name],
        evaluate(graph, feed)[graph.outputs[0].name],
        1e-5,
        1e-5,
    )


@pytest.mark.parametrize("name", ["int2-8", "int4-32", "int4-16", "int8-32"])
def test_groups_of_integers_are_standard_onnx(name: str) -> None:
    graph = packed_weights(name)
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["DequantizeLinear", "MatMul"]
    stored = {t.name: t for t in model.graph.initializer}[model.graph.node[0].input[0]]
    width = parse(name).bits
    assert len(stored.raw_data) == 240 // (2 if width <= 4 else 1)
    feed = {"x": np.eye(4, 40, dtype=np.float32)}
    (found,) = OnnxRuntimeExecutor(1).open(graph)(feed).values()
    np.testing.assert_array_equal(found, evaluate(graph, feed)[graph.outputs[0].name])


def test_packed_weights_that_are_an_output_are_unpacked() -> None:
    graph = packed_weights()
    graph.outputs.append(graph["decode"])
    plain = unpacked(graph)
    verify(plain)
    assert [v.name for v in plain.outputs] == [v.name for v in graph.outputs]


def test_the_axis_of_blocks_is_pinned_and_others_are_coupled() -> None:
    b = Builder((1, 3, 8, 8))
    y = b.conv(b.x, 8)
    packed = b.op("Encode", y, format="mxfp4", axis=2)
    y = b.op("Decode", packed, format="mxfp4", axis=2, length=8)
    graph = b.done(b.conv(y, 4))
    assert [len(g) for g in Coupling(graph).deletable()] == [8]
    b = Builder((1, 3, 8, 8))
    y = b.conv(b.x, 8)
    packed = b.op("Encode", y, format="mxfp4", axis=1)
    y = b.op("Decode", packed, format="mxfp4", axis=1, length=8)
    coupling = Coupling(b.done(b.conv(y, 4)))
    assert coupling.deletable() == coupling.permutable() == []
    assert "blocks of mxfp4" in {g.pinned for g in coupling.groups}


def test_what_cannot_be_encoded_is_refused() -> None:
    graph = Graph("g")
    codes = graph.input("q", TensorType("uint8", (4, 17)))
    with pytest.raises(VerifyError, match="encodes reals"):
        graph.add(ops.Encode(), [codes])
    with pytest.raises(VerifyError, match="33 elements of mxfp4 are 34 bytes"):
        graph.add(ops.Decode(length=33), [codes])
    x = graph.input("x", TensorType("float32", (4, "n")))
    with pytest.raises(VerifyError, match="dimension 'n' is not known"):
        graph.add(ops.Encode(), [x])
    with pytest.raises(PreconditionError, match="did you mean 'mxfp4'"):
        graph.add(ops.Encode("mxfp5"), [graph.input("y", TensorType("float32", (4, 32)))])


def test_bytes_from_elsewhere_have_no_onnx_form() -> None:
    graph = Graph("g")
    codes = graph.input("q", TensorType("uint8", (4, 17)))
    graph.outputs = [graph.add(ops.Decode(length=32), [codes]).output]
    with pytest.raises(BackendError, match="packed bytes of mxfp4 have no standard ONNX form"):
        to_onnx(graph)


def test_the_type_of_the_reals_is_kept() -> None:
    b = Builder((2, 32), dtype="float16")
    packed = b.op("Encode", b.x, format="mxint8")
    graph = b.done(b.op("Decode", packed, format="mxint8", length=32, dtype="float16"))
    x = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float16)
    (y,) = evaluate(graph, {"x": x}).values()
    assert y.dtype == np.float16
