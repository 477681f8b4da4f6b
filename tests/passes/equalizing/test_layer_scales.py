"""Which channels may be scaled: every free class, scaled at random, leaves the network alone."""

import numpy as np
import pytest
from graphs import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from qc.ir import Value, evaluate
from qc.passes.equalizing.layer_scales import LayerScales


def check(b: Builder, *outputs: Value, seed: int = 0) -> LayerScales:
    graph = b.done(*outputs)
    found = LayerScales(graph)
    factors = np.exp(np.random.default_rng(seed).normal(size=found.count))
    rescaled = found.applied(factors)
    names = [v.name for v in graph.outputs]
    for feed in b.feeds(2):
        before, after = (evaluate(g, feed) for g in (graph, rescaled))
        for name in names:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-4)
    return found


def free(found: LayerScales) -> dict[str, int]:
    return {name: len(np.unique(tags[tags > 0])) for name, tags in found.inputs.items()}


def shuffle(b: Builder, x: Value, groups: int) -> Value:
    n, c, h, w = x.shape
    x = b.op("Reshape", x, shape=(n, groups, c // groups, h, w))
    x = b.op("Transpose", x, perm=(0, 2, 1, 3, 4))
    return b.op("Reshape", x, shape=(n, c, h, w))


def test_a_chain_is_free_but_for_its_ends() -> None:
    b = Builder()
    first = b.op("Relu", b.conv(b.x, 8))
    second = b.conv(b.op("MaxPool", first, kernel=(2, 2), strides=(2, 2)), 8, group=8)
    found = check(b, b.conv(second, 4))
    assert list(free(found).values()) == [0, 8, 8]


def test_a_shuffle_moves_the_classes() -> None:
    b = Builder()
    left, right = b.op("Relu", b.conv(b.x, 6)), b.op("Relu", b.conv(b.x, 6))
    mixed = shuffle(b, b.op("Concat", left, right, axis=1), 2)
    found = check(b, b.conv(mixed, 3, 1))
    reads = list(found.inputs.values())[-1]
    made = list(found.outputs.values())
    np.testing.assert_array_equal(reads, np.stack([made[0], made[1]], 1).ravel())


def test_a_sum_makes_its_channels_one_class() -> None:
    b = Builder()
    a = b.conv(b.x, 5)
    found = check(b, b.conv(b.op("Relu", b.op("Add", a, b.conv(b.x, 5))), 2))
    first, second, _ = found.outputs.values()
    np.testing.assert_array_equal(first, second)
    assert found.count == 6


def test_grouped_convolutions_and_a_classifier() -> None:
    b = Builder()
    x = b.op("Relu", b.conv(b.op("Relu", b.conv(b.x, 8)), 12, group=4))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    w = b.normal(12, 3)
    found = check(b, b.op("Gemm", pooled, w, b.const(np.zeros(3))))
    assert list(free(found).values()) == [0, 8, 12]


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Softplus"])
def test_what_is_not_homogeneous_pins(name: str) -> None:
    b = Builder()
    found = check(b, b.conv(b.op(name, b.conv(b.x, 4)), 4))
    assert found.count == 1


def test_a_second_reader_and_an_output_pin() -> None:
    b = Builder()
    read_twice, returned = b.conv(b.x, 4), b.conv(b.x, 4)
    outs = [b.conv(v, 2) for v in (read_twice, returned)]
    found = check(b, *outs, b.op("Exp", read_twice), returned)
    assert found.count == 1


def test_layers_with_one_weight_take_one_factor() -> None:
    b = Builder()
    w = b.normal(4, 3, 1, 1)
    found = check(b, *(b.conv(b.op("Conv", b.x, w), 2) for _ in range(2)))
    first, second = (tags for tags in found.outputs.values() if len(tags) == 4)
    np.testing.assert_array_equal(first, second)
    assert found.count == 5


def test_a_shortcut_that_zeros_widen_stays() -> None:
    b = Builder()
    x = b.op("Relu", b.conv(b.x, 4))
    wide = b.op("Pad", x, pads=(0, 1, 0, 0, 0, 1, 0, 0))
    found = check(b, b.conv(b.op("Add", wide, b.conv(x, 6)), 2))
    assert found.count == 1


def test_fixed_layers_do_not_multiply() -> None:
    b = Builder()
    b.done(b.conv(b.conv(b.conv(b.x, 4), 5), 2))
    found = LayerScales(b.graph, lambda layer: layer.channels == (4, 5))
    assert list(free(found).values()) == [0, 0, 5]


def test_queries_and_keys_stay() -> None:
    """One takes the inverse of the other, which a factor that both divide by cannot say."""
    b = Builder((1, 5, 3))
    q, k = (b.op("MatMul", b.x, b.normal(3, 4)) for _ in range(2))
    found = check(b, b.op("MatMul", q, b.op("Transpose", k, perm=(0, 2, 1))))
    assert found.count == 1


@pytest.mark.parametrize("repeated", [1, 2])
def test_values_of_heads_take_a_factor_per_head_and_channel(repeated: int) -> None:
    """Which all queries that read a head share."""
    b = Builder((1, 5, 6))
    flat = b.op("MatMul", b.x, b.normal(6, 12))
    wide = b.op("Reshape", flat, shape=(1, 5, 3, 1, 4))
    wide = b.op("Expand", wide, shape=(1, 5, 3, repeated, 4))
    wide = b.op("Reshape", wide, shape=(1, 5, 3 * repeated, 4))
    weights = b.op("Softmax", b.op("MatMul", b.x, b.op("Transpose", b.x, perm=(0, 2, 1))))
    seen = b.op("MatMul", weights, b.op("Transpose", wide, perm=(0, 2, 1, 3)))
    back = b.op("Transpose", seen, perm=(0, 2, 1, 3))
    joined = b.op("Reshape", back, shape=(1, 5, 12 * repeated))
    found = check(b, b.op("MatMul", joined, b.normal(12 * repeated, 2)))
    made, read = found.outputs[flat.name], list(found.inputs.values())[-1]
    assert len(np.unique(made)) == 12
    grid = read.reshape(3, repeated, 4)
    np.testing.assert_array_equal(grid, made.reshape(3, 1, 4) + np.zeros_like(grid))
    held = LayerScales(b.graph, lambda layer: layer.channels[1] == 2)
    assert held.count == 1


@pytest.mark.parametrize(("value", "expected"), [(0.0, 4), (1.0, 0)])
def test_only_padding_with_zero_leaves_channels_free(value: float, expected: int) -> None:
    b = Builder()
    y = b.op("Pad", b.conv(b.x, 4), pads=(0, 0, 1, 1, 0, 0, 1, 1), value=value)
    assert check(b, b.conv(y, 2)).count - 1 == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = Builder(seed=seed % 1000)
    values = [b.conv(b.x, 6)]
    for _ in range(8):
        x = values[rng.integers(len(values))]
        y = values[rng.integers(len(values))]
        kind = rng.integers(7)
        if kind == 0:
            made = b.conv(x, 6, 3, group=int(rng.choice([1, 2, 6])))
        elif kind == 1:
            made = b.op("Add", x, y)
        elif kind == 2:
            made = b.conv(b.op("Concat", x, y, axis=1), 6, 1)
        elif kind == 3:
            made = shuffle(b, x, 2)
        elif kind == 4:
            made = b.op(str(rng.choice(["Relu", "Sigmoid", "LeakyRelu"])), x)
        elif kind == 5:
            made = b.op("Slice", b.op("Concat", y, x, axis=1), starts=(3,), ends=(9,), axes=(1,))
        else:
            made = b.op("MaxPool", x, kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
        values.append(made)
    check(b, b.conv(values[-1], 3), b.conv(values[-2], 3), seed=seed)
