"""Choosing, ordering and placing elements, against onnxruntime where it has the op."""

import numpy as np
import pytest

from qc.ir import Graph, ops
from qc.ir.errors import VerifyError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("axis", "condition"), [(None, [1, 0, 1]), (0, [0, 1]), (-1, [1, 0, 1, 1])]
)
def test_compress(agree, axis, condition):
    agree(ops.Compress(axis), X, np.array(condition, bool))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(agree, axis, ordered):
    x = np.float32([[2, 1, 2], [0, 5, 0], [2, 1, 2]])
    agree(ops.Unique(axis, ordered), x)


def test_unique_results():
    y, first, inverse, counts = ops.Unique(sorted=False).eval([np.array([3, 1, 3, 2])])
    assert (y.tolist(), first.tolist()) == ([3, 1, 2], [0, 1, 3])
    assert (inverse.tolist(), counts.tolist()) == ([0, 1, 0, 2], [2, 1, 1])


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reverse_sequence(agree, time, batch):
    lengths = np.array([1, 3, 2, 3][: X.shape[batch]], np.int64)
    agree(ops.ReverseSequence(time, batch), X, lengths)


@pytest.mark.parametrize("k", [-1, 0, 2])
def test_eye_like(agree, k):
    agree(ops.EyeLike("float32", k), X)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_a_cache_is_written(mode):
    cache = np.zeros((2, 3, 4, 1), np.float32)
    update = np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1)
    starts = np.array([1, 3 if mode == "circular" else 2])
    (y,) = ops.TensorScatter(mode=mode).eval([cache, update, starts])
    assert y[0, 0, :, 0].tolist() == [0, 0, 1, 0]
    rows = [7, 0, 0, 6] if mode == "circular" else [0, 0, 6, 7]
    assert y[1, 0, :, 0].tolist() == rows
    (first,) = ops.TensorScatter(mode=mode).eval([cache, update])
    assert first[1, 0, :, 0].tolist() == [6, 7, 0, 0]


def test_an_update_of_another_rank_is_named():
    graph = Graph("g")
    with pytest.raises(VerifyError, match="cannot write"):
        graph.add(ops.TensorScatter(), [graph.constant(X), graph.constant(X[0])])


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(
    ("most", "overlap", "least"), [(3, 0.4, 0.0), (10, 0.1, 0.5), (1, 0.9, -1)]
)
def test_non_max_suppression(agree, center, most, overlap, least):
    boxes = RNG.uniform(0, 1, (2, 12, 4)).astype(np.float32)
    scores = RNG.uniform(0, 1, (2, 3, 12)).astype(np.float32)
    limits = [np.array([most]), np.float32([overlap]), np.float32([least])]
    agree(ops.NonMaxSuppression(center), boxes, scores, *limits)


def test_without_a_number_of_boxes_there_are_none():
    boxes, scores = np.float32([[[0, 0, 1, 1]]]), np.float32([[[0.9]]])
    (y,) = ops.NonMaxSuppression().eval([boxes, scores])
    assert y.shape == (0, 3)
