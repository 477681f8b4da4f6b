"""Operators that ONNX defines by others."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import FLOAT, IMAGE, X, model, normal, refused, same, same_one

from qc.frontends.from_onnx import load
from qc.ir import ops
from qc.ir.evaluate import evaluate


def test_a_defined_operator_is_expanded_and_keeps_its_name():
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], name="norm")
    inputs = {"x": (FLOAT, IMAGE.shape)}
    own = same(model([node], inputs, {"y": (FLOAT, None)}), {"x": IMAGE})
    assert all(n.origin.source == "norm" for n in own.nodes)
    window = helper.make_node("HannWindow", ["size"], ["y"], name="window")
    weights = {"size": np.array(8, np.int32)}
    made = load(model([window], {}, {"y": (FLOAT, None)}, weights))
    assert all(n.origin.source.startswith("window/") for n in made.nodes)
    expected = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)
    np.testing.assert_allclose(evaluate(made, {})["y"], expected, atol=1e-6)


def test_own_ops_stay_as_they_are():
    graph = same_one("LayerNormalization", [X], 17, {"s": normal(4), "b": normal(4)})
    assert [type(n.op) for n in graph.nodes] == [ops.LayerNormalization]


def test_results_that_an_own_op_lacks_come_from_the_definition():
    proto = model(
        [helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean", "deviation"])],
        {"x": (FLOAT, X.shape)},
        dict.fromkeys(("y", "mean", "deviation"), (FLOAT, None)),
        {"s": normal(4)},
    )
    same(proto, {"x": X})


def attention(opset, names, arrays, outputs=("y",), **attributes):
    node = helper.make_node("Attention", list(names), list(outputs), name="att", **attributes)
    types = {n: (FLOAT, a.shape) for n, a in zip(names, arrays, strict=True) if n}
    return model([node], types, dict.fromkeys((o for o in outputs if o), (FLOAT, None)), {}, opset)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_groups_and_masks(kv_heads):
    q = normal(2, 4, 5, 8)
    k, v = normal(2, kv_heads, 5, 8), normal(2, kv_heads, 5, 8)
    graph = load(attention(23, ("q", "k", "v"), (q, k, v), is_causal=1))
    got = evaluate(graph, {"q": q, "k": k, "v": v})["y"]
    wide = [np.repeat(a, 4 // kv_heads, 1) for a in (k, v)]
    scores = q @ wide[0].swapaxes(2, 3) / np.sqrt(8)
    scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ wide[1]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_attention_with_a_cache_equals_attention_of_the_whole():
    """Four tokens at once, or three and then one with the cache of the three."""
    q, k, v = (normal(1, 2, 4, 8) for _ in range(3))
    names, outputs = ("q", "k", "v", "", "pk", "pv"), ("y", "key", "value")
    whole = load(attention(23, ("q", "k", "v"), (q, k, v), is_causal=1))
    expected = evaluate(whole, {"q": q, "k": k, "v": v})["y"]
    last = [a[:, :, 3:] for a in (q, k, v)]
    past = [a[:, :, :3] for a in (k, v)]
    step = load(attention(23, names, (*last, None, *past), outputs))
    feed = dict(zip(("q", "k", "v", "pk", "pv"), (*last, *past), strict=True))
    got = evaluate(step, feed)
    np.testing.assert_allclose(got["y"], expected[:, :, 3:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["key"], k)
    np.testing.assert_array_equal(got["value"], v)


def test_rotary_embedding():
    x, table = normal(1, 2, 3, 8), normal(2, 3, 4)
    node = helper.make_node("RotaryEmbedding", ["x", "c", "s"], ["y"])
    types = {"x": (FLOAT, x.shape), "c": (FLOAT, (1, 3, 4)), "s": (FLOAT, (1, 3, 4))}
    graph = load(model([node], types, {"y": (FLOAT, None)}, opset=23))
    got = evaluate(graph, {"x": x, "c": table[:1], "s": table[1:]})["y"]
    a, b, (c, s) = x[..., :4], x[..., 4:], table
    np.testing.assert_allclose(got, np.concatenate([a * c - b * s, a * s + b * c], -1), rtol=1e-5)


def test_a_definition_that_uses_what_is_refused_names_it():
    node = helper.make_node("Bernoulli", ["x"], ["y"], name="coin")
    message = refused(model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, None)}))
    assert "RandomUniformLike" in message
    assert "'coin/" in message


def test_operators_of_onnx_that_nobody_defines_are_not_opaque():
    domain = "ai.onnx.preview.training"
    node = helper.make_node("Momentum", ["r", "t", "x", "g", "v"], ["y", "w"], domain=domain)
    types = {n: (FLOAT, [2]) for n in "xgv"} | {"r": (FLOAT, []), "t": (TensorProto.INT64, [])}
    outputs = {"y": (FLOAT, [2]), "w": (FLOAT, [2])}
    assert f"{domain}.Momentum" in refused(model([node], types, outputs, domains=[domain]))
