"""The demo's data: the 1797 handwritten digits inside scikit-learn, and one fixed split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TEST, CALIBRATION, SEED = 500, 128, 7


@dataclass(frozen=True)
class Split:
    """Images float32 [n, 1, 8, 8] in 0..1, labels int64 [n]; calibration is a part of training."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    calibration: NDArray[np.float32]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def split() -> Split:
    """Shuffle by SEED, then the first TEST images are the test set and the rest is for training."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(images))
    test, train = order[:TEST], order[TEST:]
    calibration = images[train[:CALIBRATION]]
    return Split(images[train], labels[train], calibration, images[test], labels[test])
