"""What is learned from measured schedules orders others."""

import json

import numpy as np
import pytest

pytest.importorskip("tvm")

from qc.backends.codegen.tuning.regression import Regression, rows


def trace(tiles: list[int], unroll: int, place: int = 28) -> str:
    """The parts of a trace that count: one tile, one choice, where the epilogue went."""
    steps = [["GetLoops", ["b0"], [], []], ["ReverseComputeAt", ["b1", f"l{place}"], [1], []]]
    return json.dumps([steps, [[0, tiles], [1, unroll]]])


def test_a_schedule_is_its_logarithms_and_choices() -> None:
    np.testing.assert_array_equal(rows([trace([1, 8, 4], 2)]), [[28, 0, 3, 2, 2]])
    np.testing.assert_array_equal(rows([json.dumps([[], [[0, 3]]])]), [[0, 3]])


def test_rows_are_as_long_as_those_that_were_learned_from() -> None:
    long, short = trace([1, 8, 4], 2), json.dumps([[], [[0, 3]]])
    np.testing.assert_array_equal(rows([long, short]), [[28, 0, 3, 2, 2], [0, 3, 0, 0, 0]])
    np.testing.assert_array_equal(rows([long], 2), [[28, 0]])


def test_times_of_others_are_guessed_from_neighbours() -> None:
    """Vectors of eight are eight times as fast as scalars, and unrolling takes a fifth off."""
    rng = np.random.default_rng(0)

    def seconds(tiles: list[int], unroll: int) -> float:
        return float(1e-3 / tiles[2] * (1 - 0.2 * unroll) * rng.uniform(0.97, 1.03))

    every = [([32 // (a * b), a, b], u) for a in (1, 2, 4) for b in (1, 2, 4, 8) for u in (0, 1)]
    order = rng.permutation(len(every))
    known, others = [every[i] for i in order[:16]], [every[i] for i in order[16:]]
    fitted = Regression.fit([trace(*e) for e in known], [seconds(*e) for e in known])
    guessed = fitted.seconds([trace(*e) for e in others])
    want = np.array([seconds(*e) for e in others])
    assert np.corrcoef(np.log(guessed), np.log(want))[0, 1] > 0.9
    assert fitted.seconds([trace([4, 1, 8], 1)])[0] < fitted.seconds([trace([32, 1, 1], 0)])[0] / 3


def test_equal_schedules_of_different_times_do_not_break_it() -> None:
    fitted = Regression.fit([trace([2, 2, 8], 0)] * 3, [1e-3, 2e-3, 3e-3])
    assert 1e-3 < fitted.seconds([trace([2, 2, 8], 0)])[0] < 3e-3
