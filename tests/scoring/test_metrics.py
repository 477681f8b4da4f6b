"""Metrics: the zoo's definitions, streaming, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qc.ir.errors import DataError
from qc.passes import measure
from qc.scoring.metrics import Sqnr, choices, default_metric, metric, sqnr_db, trimmed

RNG = np.random.default_rng(0)


def scored(
    name: str, outputs: np.ndarray, labels: np.ndarray | None, reference: np.ndarray | None = None
) -> float:
    one = metric(name)
    for i in range(len(outputs)):
        part = slice(i, i + 1)
        one.update(
            [outputs[part]],
            None if labels is None else labels[part],
            [] if reference is None else [reference[part]],
            1,
        )
    assert one.samples == len(outputs)
    return one.value


def test_top1_counts_right_answers() -> None:
    outputs = np.eye(4, dtype=np.float32)
    assert scored("top1", outputs, np.array([0, 1, 2, 0])) == 0.75


def test_top1_flattens_trailing_axes() -> None:
    outputs = RNG.standard_normal((6, 10, 1, 1))
    assert scored("top1", outputs, outputs.reshape(6, 10).argmax(1)) == 1.0


def test_top1_of_tokens_is_per_position() -> None:
    outputs = RNG.standard_normal((2, 3, 5))
    labels = outputs.argmax(-1)
    labels[0, 0] += 1
    assert scored("top1", outputs, labels) == pytest.approx(5 / 6)


@given(st.integers(2, 20), st.integers(1, 6))
def test_perplexity_of_uniform_logits_is_the_vocabulary(words: int, count: int) -> None:
    labels = RNG.integers(0, words, (count, 4))
    assert scored("perplexity", np.zeros((count, 4, words)), labels) == pytest.approx(words)


def test_perplexity_matches_the_definition() -> None:
    logits, labels = RNG.standard_normal((3, 4, 7)), RNG.integers(0, 7, (3, 4))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = math.exp(-np.log(np.take_along_axis(p, labels[..., None], -1)).mean())
    assert scored("perplexity", logits, labels) == pytest.approx(expected)


def test_agreement_compares_decisions() -> None:
    a, b = np.eye(4), np.eye(4)
    b[3] = b[0]
    assert scored("agreement", a, None, b) == 0.75
    assert scored("agreement", np.zeros((2, 3, 5)), None, np.zeros((2, 3, 5))) == 1.0


def test_mse_is_over_all_elements() -> None:
    a = RNG.standard_normal((5, 3))
    assert scored("mse", a, None, a + 0.5) == pytest.approx(0.25)


def test_sqnr() -> None:
    a = np.ones(100)
    assert sqnr_db(a, a) == math.inf
    assert sqnr_db(a, a + 0.1) == pytest.approx(20)
    running = Sqnr()
    running.update([a], [a + 0.1])
    running.update([a], [a])
    assert running.db == pytest.approx(20 + 10 * math.log10(2))


@pytest.mark.filterwarnings("error")
def test_infinity_of_a_mask_does_not_count() -> None:
    a, hidden = np.ones(100), np.full(100, -np.inf)
    for ratio in (sqnr_db, lambda x, y: measure.sqnr_db([x], [y])):
        both = np.concatenate([a, hidden])
        assert ratio(both, np.concatenate([a + 0.1, hidden])) == pytest.approx(20)
        assert ratio(both, np.concatenate([a + 0.1, hidden.clip(-9)])) == pytest.approx(20)


def test_drops_have_their_units() -> None:
    assert metric("top1").drop(0.91, 0.90) == pytest.approx(1.0)
    assert metric("perplexity").drop(4.0, 5.0) == pytest.approx(25.0)
    assert metric("mse").drop(0.0, 0.5) > 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="needs an array 'labels'"):
        scored("top1", np.eye(2), None)
    with pytest.raises(DataError, match="do not fit"):
        scored("top1", np.eye(2), np.zeros((2, 3)))
    with pytest.raises(DataError, match="do not fit"):
        scored("perplexity", np.zeros((1, 2, 3)), np.full((1, 2), 3))
    with pytest.raises(DataError, match="differ"):
        scored("mse", np.zeros((1, 2)), None, np.zeros((1, 3)))
    with pytest.raises(DataError, match="no samples"):
        _ = metric("top1").value
    with pytest.raises(DataError, match="did you mean 'top1'"):
        metric("top-1")


def test_the_default_follows_the_labels() -> None:
    assert default_metric(np.zeros(4), compared=False) == "top1"
    assert default_metric(np.zeros((4, 1)), compared=False) == "top1"
    assert default_metric(np.zeros((4, 7)), compared=False) == "perplexity"
    assert default_metric(None, compared=True) == "agreement"
    with pytest.raises(DataError, match="no array 'labels'"):
        default_metric(None, compared=False)


def test_padding_is_cut_off() -> None:
    whole, other = np.zeros((4, 2)), np.zeros((3, 2))
    assert [a.shape for a in trimmed([whole, other], 4, 1)] == [(1, 2), (3, 2)]
    assert choices(np.eye(3), 1).tolist() == [0, 1, 2]
