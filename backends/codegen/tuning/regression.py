"""How fast a schedule will be, guessed from those that were measured: kernel ridge regression.

A schedule is the logarithms of its tile sizes and its other choices; what is learned is the
logarithm of its time (Saunders, Gammerman, Vovk: Ridge Regression Learning Algorithm in Dual
Variables, 1998, with a Gaussian kernel as wide as the typical distance).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ir.types import Array

RIDGE = 0.1
"""Variance of noise beside that of the times."""


@dataclass(frozen=True)
class Regression:
    """Fitted to ``points`` ``[n, features]``; ``weights`` ``[n]`` of the kernel at each of them."""

    points: Array
    scale: Array
    width: float
    weights: Array
    mean: float

    @staticmethod
    def fit(traces: Sequence[str], seconds: Sequence[float]) -> "Regression":
        """From traces as JSON text and their times; two at least."""
        points = rows(traces)
        scale = np.maximum(points.std(0), 1e-6)
        distances = _distances(points / scale, points / scale)
        width = max(float(np.median(distances)), 1e-6)
        logs = np.log(np.asarray(seconds, np.float64))
        gram = np.exp(-distances / width)
        weights = np.linalg.solve(gram + RIDGE * np.eye(len(logs)), logs - logs.mean())
        return Regression(points, scale, width, weights, float(logs.mean()))

    def seconds(self, traces: Sequence[str]) -> Array:
        """The times that are expected of other traces, float64."""
        points = rows(traces, self.points.shape[1])
        near = np.exp(-_distances(points / self.scale, self.points / self.scale) / self.width)
        return np.asarray(np.exp(self.mean + near @ self.weights))


def rows(traces: Sequence[str], length: int | None = None) -> Array:
    """One row of features a trace, float64; cut or filled with zeros to ``length``."""
    found = [_features(t) for t in traces]
    width = length or max(map(len, found))
    return np.array([(f + [0.0] * width)[:width] for f in found], np.float64)


def _features(trace: str) -> list[float]:
    """Tile sizes as logarithms, choices as they are, and where the epilogue went."""
    steps, decisions = json.loads(trace)
    places = [step[1][1] for step in steps if step[0] == "ReverseComputeAt"]
    found = [float(places[0].strip("l"))] if places else [0.0]
    for _, decision in decisions:
        if isinstance(decision, list):
            found += [float(np.log2(v)) for v in decision]
        else:
            found.append(float(decision))
    return found


def _distances(a: Array, b: Array) -> Array:
    """Squared, of each row to each."""
    return np.asarray(((a[:, None] - b[None]) ** 2).sum(-1))
