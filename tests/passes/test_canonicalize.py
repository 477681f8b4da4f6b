"""Every rule of canonicalization: it fires on its expression, keeps the function, and only then."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from graphs import Builder, residual_net

from qc.ir import Graph, Value, evaluate, verify
from qc.passes import Canonicalize, Context

Make = Callable[[Builder], Value]


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def check(make: Make, expected: list[str], shape: tuple[int, ...] = (2, 8)) -> Graph:
    """Canonicalize what ``make`` writes; same outputs, and exactly the ops expected."""
    b = Builder(shape)
    graph = b.done(make(b))
    feeds = [{"x": f["x"] * 4} for f in b.feeds(3)]
    before = [evaluate(graph, f) for f in feeds]
    Canonicalize().apply(graph, Context())
    verify(graph)
    assert ops(graph) == expected
    for feed, old in zip(feeds, before, strict=True):
        for name, array in evaluate(graph, feed).items():
            assert np.allclose(array, old[name], rtol=1e-5, atol=1e-5)
    again = str(graph)
    Canonicalize().apply(graph, Context())
    assert str(graph) == again
    return graph


def gelu(b: Builder, order: str) -> Value:
    half, one = b.const([0.5]), b.const([1.0])
    if "mul" in order:
        inner = b.op("Mul", b.x, b.const([math.sqrt(0.5)]))
    else:
        inner = b.op("Div", b.x, b.const([math.sqrt(2)]))
    erf = b.op("Add", b.op("Erf", inner), one)
    if "half" in order:
        return b.op("Mul", b.op("Mul", half, b.x), erf)
    if "last" in order:
        return b.op("Mul", b.x, b.op("Mul", erf, half))
    return b.op("Mul", b.op("Mul", b.x, erf), half)


def gelu_tanh(b: Builder) -> Value:
    cube = b.op("Mul", b.op("Pow", b.x, b.const([3.0])), b.const([0.044715]))
    inner = b.op("Mul", b.op("Add", b.x, cube), b.const([math.sqrt(2 / math.pi)]))
    wide = b.op("Add", b.op("Tanh", inner), b.const([1.0]))
    return b.op("Mul", b.op("Mul", b.x, b.const([0.5])), wide)


def hard_swish(b: Builder, form: str) -> Value:
    six = b.op("Clip", b.op("Add", b.x, b.const([3.0])), min=0.0, max=6.0)
    if form == "div":
        return b.op("Mul", b.x, b.op("Div", six, b.const([6.0])))
    if form == "mul":
        return b.op("Mul", b.x, b.op("Mul", six, b.const([1 / 6])))
    if form == "last":
        return b.op("Div", b.op("Mul", b.x, six), b.const([6.0]))
    return b.op("Mul", b.x, b.op("HardSigmoid", b.x, alpha=1 / 6, beta=0.5))


def clip_five(b: Builder) -> Value:
    return b.op("Clip", b.op("Add", b.x, b.const([3.0])), min=0.0, max=5.0)


ACTIVATIONS: dict[str, tuple[Make, list[str]]] = {
    "silu": (lambda b: b.op("Mul", b.op("Sigmoid", b.x), b.x), ["Silu"]),
    "gelu": (lambda b: gelu(b, ""), ["Gelu"]),
    "gelu half": (lambda b: gelu(b, "half"), ["Gelu"]),
    "gelu last": (lambda b: gelu(b, "last"), ["Gelu"]),
    "gelu mul": (lambda b: gelu(b, "mul"), ["Gelu"]),
    "gelu mul half": (lambda b: gelu(b, "mul half"), ["Gelu"]),
    "gelu mul last": (lambda b: gelu(b, "mul last"), ["Gelu"]),
    "gelu tanh": (gelu_tanh, ["Gelu"]),
    "hard swish div": (lambda b: hard_swish(b, "div"), ["HardSwish"]),
    "hard swish mul": (lambda b: hard_swish(b, "mul"), ["HardSwish"]),
    "hard swish last": (lambda b: hard_swish(b, "last"), ["HardSwish"]),
    "hard swish gate": (lambda b: hard_swish(b, "gate"), ["HardSwish"]),
    "relu6": (
        lambda b: b.op("Min", b.op("Max", b.x, b.const(0.0)), b.const(6.0)),
        ["Relu", "Clip"],
    ),
    "clips": (
        lambda b: b.op("Clip", b.op("Clip", b.x, min=-1.0, max=9.0), min=0.0, max=6.0),
        ["Clip"],
    ),
    "relus": (lambda b: b.op("Relu", b.op("Relu", b.x)), ["Relu"]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    check(*ACTIVATIONS[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda b: b.op("Mul", b.x, b.op("Sigmoid", b.op("Neg", b.x))),
        lambda b: b.op("Mul", b.x, b.op("HardSigmoid", b.x, alpha=0.2, beta=0.5)),
        lambda b: b.op("Mul", b.x, b.op("Div", clip_five(b), b.const([6.0]))),
        lambda b: b.op("Max", b.x, b.const(np.arange(8))),
    ],
)  # fmt: skip
def test_what_only_looks_alike_stays(make: Make) -> None:
    b = Builder((2, 8))
    before = ops(b.done(make(b)))
    check(make, before)


def layer_norm(b: Builder, square: str, rest: str) -> Value:
    mean = b.op("ReduceMean", b.x, axes=(-1,))
    centered = b.op("Sub", b.x, mean)
    squares = (
        b.op("Pow", centered, b.const(2.0)) if square == "pow" else b.op("Mul", centered, centered)
    )
    variance = b.op("ReduceMean", squares, axes=(-1,))
    root = b.op("Sqrt", b.op("Add", variance, b.const(1e-5)))
    y = (
        b.op("Mul", centered, b.op("Reciprocal", root))
        if rest == "mul"
        else b.op("Div", centered, root)
    )
    return b.op("Add", b.op("Mul", y, b.normal(8)), b.normal(8))


def rms_norm(b: Builder, square: str, rest: str) -> Value:
    squares = b.op("Pow", b.x, b.const(2.0)) if square == "pow" else b.op("Mul", b.x, b.x)
    mean = b.op("ReduceMean", squares, axes=(-1,))
    root = b.op("Sqrt", b.op("Add", mean, b.const(1e-5)))
    y = b.op("Mul", b.x, b.op("Reciprocal", root)) if rest == "mul" else b.op("Div", b.x, root)
    return b.op("Mul", b.normal(8), y)


@pytest.mark.parametrize("square", ["pow", "mul"])
@pytest.mark.parametrize("rest", ["div", "mul"])
def test_norms(square: str, rest: str) -> None:
    if rest == "div" or square == "pow":
        check(lambda b: layer_norm(b, square, rest), ["LayerNormalization"])
    check(lambda b: rms_norm(b, square, rest), ["RMSNormalization"])


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 2, 3, 8)])
def test_norms_of_sequences(shape: tuple[int, ...]) -> None:
    check(lambda b: layer_norm(b, "pow", "div"), ["LayerNormalization"], shape)
    check(lambda b: rms_norm(b, "pow", "mul"), ["RMSNormalization"], shape)


@pytest.mark.parametrize(
    ("weights", "attributes", "expected"),
    [
        ((6, 5, 2, 2), {"strides": (2, 2)}, ["Conv", "DepthToSpace"]),
        (
            (6, 5, 3, 3),
            {"strides": (2, 2), "pads": (1, 1, 1, 1)},
            ["Conv", "DepthToSpace", "Slice"],
        ),
        (
            (6, 5, 3, 4),
            {"strides": (2, 2), "pads": (1, 0, 1, 1), "output_padding": (1, 0)},
            ["Conv", "DepthToSpace", "Slice"],
        ),
        ((6, 4, 4, 5), {"strides": (3, 3), "group": 2}, ["Conv", "DepthToSpace", "Slice"]),
        ((6, 5, 3, 3), {"pads": (1, 1, 1, 1)}, ["Conv", "Slice"]),
        ((6, 5, 3, 3), {"strides": (2, 1)}, ["ConvTranspose"]),
        ((6, 5, 2, 2), {"dilations": (2, 2)}, ["ConvTranspose"]),
        ((6, 5, 2, 2), {"strides": (2, 2), "output_padding": (1, 1)}, ["ConvTranspose"]),
    ],
)
def test_transposed_convolutions(
    weights: tuple[int, ...], attributes: dict[str, object], expected: list[str]
) -> None:
    def make(b: Builder) -> Value:
        bias = b.normal(weights[1] * int(str(attributes.get("group", 1))))
        return b.op("ConvTranspose", b.x, b.normal(*weights), bias, **attributes)

    check(make, expected, (2, 6, 4, 5))


def test_a_mean_over_another_axis_is_no_layer_norm() -> None:
    def make(b: Builder) -> Value:
        centered = b.op("Sub", b.x, b.op("ReduceMean", b.x, axes=(0,)))
        variance = b.op("ReduceMean", b.op("Pow", centered, b.const(2.0)), axes=(0,))
        return b.op("Div", centered, b.op("Sqrt", b.op("Add", variance, b.const(1e-5))))

    b = Builder((2, 8))
    check(make, ops(b.done(make(b))))


LINEAR: dict[str, tuple[Make, list[str]]] = {
    "bias after conv": (lambda b: b.op("Add", b.conv(b.x, 4), b.normal(1, 4, 1, 1)), ["Conv"]),
    "scale after conv": (lambda b: b.op("Mul", b.conv(b.x, 4), b.normal(4, 1, 1)), ["Conv"]),
    "a map after conv stays": (
        lambda b: b.op("Add", b.conv(b.x, 4), b.normal(8, 8)),
        ["Conv", "Add"],
    ),
    "pad before conv": (
        lambda b: b.op(
            "Conv", b.op("Pad", b.x, pads=(0, 0, 1, 2, 0, 0, 3, 0)), b.normal(4, 3, 3, 3)
        ),
        ["Conv"],
    ),
    "padding by one stays": (
        lambda b: b.op(
            "Conv", b.op("Pad", b.x, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=1.0), b.normal(4, 3, 3, 3)
        ),
        ["Pad", "Conv"],
    ),
    "channel padding stays": (
        lambda b: b.op(
            "Conv", b.op("Pad", b.x, pads=(0, 1, 0, 0, 0, 0, 0, 0)), b.normal(4, 4, 3, 3)
        ),
        ["Pad", "Conv"],
    ),
    "spatial mean": (lambda b: b.op("ReduceMean", b.x, axes=(2, 3)), ["GlobalAveragePool"]),
    "spatial mean, dropped": (
        lambda b: b.op("ReduceMean", b.x, axes=(-1, 2), keepdims=False),
        ["GlobalAveragePool", "Flatten"],
    ),
    "channel mean stays": (lambda b: b.op("ReduceMean", b.x, axes=(1, 2)), ["ReduceMean"]),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str) -> None:
    check(*LINEAR[name], (1, 3, 8, 8))


def test_products_become_gemm() -> None:
    check(lambda b: b.op("Add", b.op("MatMul", b.x, b.normal(8, 5)), b.normal(5)), ["Gemm"])
    graph = check(
        lambda b: b.op(
            "Gemm", b.x, b.normal(5, 8), b.normal(1, 5), trans_b=True, alpha=2.0, beta=0.5
        ),
        ["Gemm"],
    )
    op = graph.nodes[0].op
    assert (op.alpha, op.beta, op.trans_b) == (1.0, 1.0, False)
    assert graph.nodes[0].operands[2].shape == (5,)


@pytest.mark.parametrize("bias", [(5,), (1, 1, 5), (1,)])
def test_a_layer_of_a_sequence_takes_its_bias(bias: tuple[int, ...]) -> None:
    def make(b: Builder) -> Value:
        return b.op("Add", b.normal(*bias), b.op("MatMul", b.x, b.normal(8, 5)))

    graph = check(make, ["Gemm"], (2, 3, 8))
    assert graph.nodes[0].operands[2].shape == (5,)


@pytest.mark.parametrize("other", [(3, 5), (2, 3, 1), (2, 1, 1, 5)])
def test_what_is_no_bias_stays_a_sum(other: tuple[int, ...]) -> None:
    check(
        lambda b: b.op("Add", b.op("MatMul", b.x, b.normal(8, 5)), b.normal(*other)),
        ["MatMul", "Add"],
        (2, 3, 8),
    )


SHAPES: dict[str, tuple[Make, list[str]]] = {
    "identity": (lambda b: b.op("Relu", b.op("Identity", b.x)), ["Relu"]),
    "same shape": (lambda b: b.op("Relu", b.op("Reshape", b.x, shape=(2, 3, 4))), ["Relu"]),
    "reshapes": (
        lambda b: b.op("Reshape", b.op("Reshape", b.x, shape=(6, 4)), shape=(4, 6)),
        ["Reshape"],
    ),
    "transposes": (
        lambda b: b.op("Transpose", b.op("Transpose", b.x, perm=(1, 0, 2)), perm=(2, 0, 1)),
        ["Transpose"],
    ),
    "transposes that cancel": (
        lambda b: b.op(
            "Relu", b.op("Transpose", b.op("Transpose", b.x, perm=(2, 0, 1)), perm=(1, 2, 0))
        ),
        ["Relu"],
    ),
    "whole slice": (
        lambda b: b.op("Relu", b.op("Slice", b.x, starts=(0,), ends=(99,), axes=(1,))),
        ["Relu"],
    ),
    "a reversing slice stays": (
        lambda b: b.op("Slice", b.x, starts=(-1,), ends=(-99,), axes=(1,), steps=(-1,)),
        ["Slice"],
    ),
    "a shifting pad stays": (lambda b: b.op("Pad", b.x, pads=(0, 1, 0, 0, -1, 0)), ["Pad"]),
    "constants": (
        lambda b: b.op(
            "Add", b.x, b.op("Mul", b.op("Reshape", b.normal(3, 4), shape=(1, 3, 4)), b.const(2.0))
        ),
        ["Add"],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    check(*SHAPES[name], (2, 3, 4))


def test_tied_weights_stay_tied() -> None:
    b = Builder((64, 64))
    w = b.normal(64, 64)
    turned = b.op("Transpose", w, perm=(1, 0))
    graph = b.done(b.op("MatMul", b.op("MatMul", b.x, w), turned))
    Canonicalize().apply(graph, Context())
    assert ops(graph) == ["Transpose", "MatMul", "MatMul"]
    assert len(graph.constants) == 1


def test_the_whole_network_keeps_its_function() -> None:
    net = residual_net()
    feeds = net.feeds(2)
    before = [evaluate(net.graph, f)["prob"] for f in feeds]
    statistics = Canonicalize().apply(net.graph, Context())
    assert statistics["silu"] == 1
    for feed, old in zip(feeds, before, strict=True):
        assert np.allclose(evaluate(net.graph, feed)["prob"], old, atol=1e-6)
