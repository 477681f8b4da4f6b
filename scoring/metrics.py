"""How good outputs are: top-1, perplexity, agreement and mean squared error, as running sums.

The first output of a network is the one that is judged by labels; ``mse`` looks at all outputs.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..ir.errors import DataError, nearest
from ..ir.types import Array

Outputs = Sequence[Array]


class Metric(ABC):
    """A number over many samples, fed batch by batch."""

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.samples = 0
        self._total = 0.0
        self._weight = 0

    def update(
        self, outputs: Outputs, labels: Array | None, reference: Outputs, count: int
    ) -> None:
        """Take in ``count`` samples: a model's outputs, labels, and another model's outputs."""
        if self.needs_labels and labels is None:
            raise DataError(f"metric {self.name!r} needs an array 'labels' beside the inputs")
        total, weight = self._measure(outputs, labels, reference)
        self._total += total
        self._weight += weight
        self.samples += count

    @property
    def value(self) -> float:
        """The metric over all samples so far; ``DataError`` if there were none."""
        if not self._weight:
            raise DataError("there are no samples to evaluate")
        return self._total / self._weight

    @abstractmethod
    def _measure(
        self, outputs: Outputs, labels: Array | None, reference: Outputs
    ) -> tuple[float, int]:
        """Sum over the batch, and how many terms it has."""

    def drop(self, reference: float, value: float) -> float:
        """Loss from ``reference`` to ``value`` in points of per cent (perplexity: in per cent)."""
        return 100.0 * (reference - value)

    def show(self, value: float) -> str:
        """The value for a person."""
        return f"{100 * value:.2f} %"


class Top1(Metric):
    """Fraction of samples whose greatest output is the label (a position in the output)."""

    name = "top1"
    needs_labels = True

    def _measure(
        self, outputs: Outputs, labels: Array | None, reference: Outputs
    ) -> tuple[float, int]:
        assert labels is not None
        best = choices(outputs[0], labels.ndim)
        if best.size != labels.size:
            raise DataError(
                f"labels {list(labels.shape)} do not fit output {list(outputs[0].shape)}"
            )
        return float((best.reshape(-1) == labels.reshape(-1)).sum()), best.size


class Perplexity(Metric):
    """``exp`` of the mean negative log likelihood of the labels; logits on the last axis."""

    name = "perplexity"
    needs_labels = True
    higher_is_better = False

    def _measure(
        self, outputs: Outputs, labels: Array | None, reference: Outputs
    ) -> tuple[float, int]:
        assert labels is not None
        logits = outputs[0].astype(np.float64)
        flat = logits.reshape(-1, logits.shape[-1])
        at = labels.reshape(-1, 1).astype(np.int64)
        if len(flat) != len(at) or at.size == 0 or at.min() < 0 or at.max() >= flat.shape[1]:
            raise DataError(f"labels {list(labels.shape)} do not fit output {list(logits.shape)}")
        flat = flat - flat.max(-1, keepdims=True)
        log_p = np.take_along_axis(flat, at, -1)[:, 0] - np.log(np.exp(flat).sum(-1))
        return -float(log_p.sum()), len(log_p)

    @property
    def value(self) -> float:
        """Perplexity, at most ``exp(700)``."""
        return math.exp(min(super().value, 700.0))

    def drop(self, reference: float, value: float) -> float:
        """Rise in per cent of the reference."""
        return 100.0 * (value / reference - 1.0)

    def show(self, value: float) -> str:
        """The plain number."""
        return f"{value:.4f}"


class Agreement(Metric):
    """Fraction of decisions (greatest output) that are those of another model."""

    name = "agreement"
    needs_reference = True

    def _measure(
        self, outputs: Outputs, labels: Array | None, reference: Outputs
    ) -> tuple[float, int]:
        rank = 1 if _squeezed(outputs[0]).ndim <= 2 else 2
        ours, theirs = choices(outputs[0], rank), choices(reference[0], rank)
        if ours.shape != theirs.shape:
            raise DataError(
                f"outputs {list(outputs[0].shape)} and {list(reference[0].shape)} differ"
            )
        return float((ours == theirs).sum()), ours.size


class MeanSquaredError(Metric):
    """Mean squared difference from the outputs of another model, over all outputs' elements."""

    name = "mse"
    needs_reference = True
    higher_is_better = False

    def _measure(
        self, outputs: Outputs, labels: Array | None, reference: Outputs
    ) -> tuple[float, int]:
        total, size = 0.0, 0
        for ours, theirs in zip(outputs, reference, strict=True):
            if ours.shape != theirs.shape:
                raise DataError(f"outputs {list(ours.shape)} and {list(theirs.shape)} differ")
            total += float(np.square(ours.astype(np.float64) - theirs.astype(np.float64)).sum())
            size += ours.size
        return total, size

    def drop(self, reference: float, value: float) -> float:
        """The rise itself, times 100."""
        return 100.0 * (value - reference)

    def show(self, value: float) -> str:
        """The plain number."""
        return f"{value:.6g}"


METRICS: dict[str, type[Metric]] = {
    m.name: m for m in (Top1, Perplexity, Agreement, MeanSquaredError)
}


def metric(name: str) -> Metric:
    """A fresh metric by name; ``DataError`` with the nearest name."""
    if name not in METRICS:
        raise DataError(f"unknown metric {name!r}; {nearest(name, METRICS)}")
    return METRICS[name]()


def default_metric(labels: Array | None, compared: bool) -> str:
    """``perplexity`` for a label per position, ``top1`` for one per sample, else ``agreement``."""
    if labels is None:
        if not compared:
            raise DataError("the data hold no array 'labels': nothing to evaluate against")
        return "agreement"
    return "perplexity" if labels.ndim > 1 and labels.size > len(labels) else "top1"


def choices(output: Array, label_rank: int) -> Array:
    """The greatest output of every sample (``label_rank`` 1) or of every position (last axis)."""
    if label_rank > 1 and output.ndim > 2:
        return np.asarray(output.argmax(-1))
    return np.asarray(output.reshape(len(output), -1).argmax(1))


def trimmed(outputs: Sequence[Array], batch: int, count: int) -> list[Array]:
    """Outputs without the padding of a last batch, where axis 0 is the batch."""
    if count == batch:
        return list(outputs)
    return [o[:count] if o.ndim and o.shape[0] == batch else o for o in outputs]


class Sqnr:
    """Running signal to quantization noise ratio of one model's outputs against another's.

    Infinite elements of the reference (masks of attention) have no size and do not count.
    """

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def update(self, reference: Outputs, outputs: Outputs) -> None:
        """Take in the outputs of one feed."""
        for a, b in zip(reference, outputs, strict=True):
            a64, b64 = a.astype(np.float64), b.astype(np.float64)
            known = ~np.isinf(a64)
            self.signal += float(np.square(a64, where=known, out=np.zeros_like(a64)).sum())
            apart = np.subtract(a64, b64, where=known, out=np.zeros_like(a64))
            self.noise += float(np.square(apart).sum())

    @property
    def db(self) -> float:
        """``10 log10(signal / noise)``; infinite where nothing differs."""
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(max(self.signal, 1e-300) / self.noise)


def sqnr_db(reference: Array, result: Array) -> float:
    """Signal to quantization noise ratio of one array in dB."""
    ratio = Sqnr()
    ratio.update([reference], [result])
    return ratio.db


def _squeezed(a: Array) -> Array:
    """Without trailing axes of length 1."""
    while a.ndim > 2 and a.shape[-1] == 1:
        a = a[..., 0]
    return a
