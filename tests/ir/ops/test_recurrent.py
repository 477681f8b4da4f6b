"""RNN, GRU and LSTM against onnxruntime: directions, lengths, peepholes, activations."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)
LENGTH, BATCH, SIZE, HIDDEN = 5, 3, 4, 2
KINDS = {ops.RNN: 1, ops.GRU: 3, ops.LSTM: 4}


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def operands(kind, ways=1, state=True):
    """x, W, R, B, lengths (absent), initial states."""
    rows = KINDS[kind] * HIDDEN
    weights = [normal(ways, rows, SIZE), normal(ways, rows, HIDDEN), normal(ways, 2 * rows)]
    starts = [normal(ways, BATCH, HIDDEN) for _ in range(kind.states if state else 0)]
    return [normal(LENGTH, BATCH, SIZE), *weights, None, *starts]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_directions(agree, kind, direction):
    ways = 2 if direction == "bidirectional" else 1
    results = agree(kind(HIDDEN, direction), *operands(kind, ways))
    assert results[0].shape == (LENGTH, ways, BATCH, HIDDEN)
    assert len(results) == 1 + kind.states


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_unequal_length(agree, kind, direction):
    ins = operands(kind, 2 if direction == "bidirectional" else 1, state=False)
    ins[4] = np.array([5, 2, 3], np.int32)
    every, *_ = agree(kind(HIDDEN, direction), *ins)
    assert not every[2:, :, 1].any()


def test_without_bias(agree):
    x, w, r, *_ = operands(ops.GRU)
    agree(ops.GRU(HIDDEN), x, w, r)


@pytest.mark.parametrize("linear", [False, True])
def test_gru_resets_before_or_after(agree, linear):
    agree(ops.GRU(HIDDEN, linear_before_reset=linear), *operands(ops.GRU))


def test_peepholes(agree):
    agree(ops.LSTM(HIDDEN), *operands(ops.LSTM), normal(1, 3 * HIDDEN))


@pytest.mark.parametrize("kind", [ops.RNN, ops.GRU])
def test_clip(agree, kind):
    agree(kind(HIDDEN, clip=0.25), *operands(kind))


def test_clip_of_cells():
    """ONNX clips what enters any activation, the last one too; onnxruntime leaves that one out."""
    ins = operands(ops.LSTM)
    free, wide, narrow = (ops.LSTM(HIDDEN, clip=clip).eval(ins)[0] for clip in (None, 100.0, 0.25))
    np.testing.assert_array_equal(free, wide)
    assert np.abs(free).max() > np.tanh(0.25) > np.abs(narrow).max()


def test_coupled_gates(agree):
    agree(ops.LSTM(HIDDEN, input_forget=True), *operands(ops.LSTM))


@pytest.mark.parametrize(
    ("name", "alpha", "beta"),
    [
        ("Relu", (), ()), ("LeakyRelu", (0.2,), ()), ("HardSigmoid", (0.3,), (0.4,)),
        ("Affine", (0.5,), (0.1,)), ("ScaledTanh", (0.5,), (1.5,)), ("Elu", (0.7,), ()),
        ("Softsign", (), ()), ("Softplus", (), ()), ("ThresholdedRelu", (0.3,), ()),
        ("Sigmoid", (), ()),
    ],
)  # fmt: skip
def test_activations(agree, name, alpha, beta):
    op = ops.RNN(HIDDEN, activations=(name,), activation_alpha=alpha, activation_beta=beta)
    agree(op, *operands(ops.RNN))


def test_each_way_has_activations_of_its_own(agree):
    op = ops.GRU(HIDDEN, "bidirectional", ("Sigmoid", "Tanh", "HardSigmoid", "Softsign"))
    agree(op, *operands(ops.GRU, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_may_come_first(kind):
    ins = operands(kind, 2)
    op = kind(HIDDEN, "bidirectional")
    plain = op.eval(ins)
    turned = [ins[0].swapaxes(0, 1), *ins[1:5], *(s.swapaxes(0, 1) for s in ins[5:])]
    first = kind(HIDDEN, "bidirectional", layout=1).eval(turned)
    np.testing.assert_array_equal(first[0], plain[0].transpose(2, 0, 1, 3))
    for a, b in zip(first[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(a, b.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("op", "match"),
    [
        (ops.LSTM(HIDDEN + 1), "are not of 3 hidden units"),
        (ops.LSTM(HIDDEN, "sideways"), "'sideways' does not exist"),
        (ops.LSTM(HIDDEN, activations=("Sigmoid", "Tahn", "Tanh")), "'tahn' does not exist"),
    ],
)
def test_what_does_not_fit_is_named(op, match):
    graph = Graph("g")
    ins = [None if a is None else graph.constant(a) for a in operands(ops.LSTM)]
    with pytest.raises(VerifyError, match=match):
        graph.add(op, ins)
