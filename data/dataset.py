"""Calibration and evaluation data in all its forms, as a re-iterable stream of feeds.

DATA is an ``.npz`` file (one array per input, samples on axis 0, ``labels`` beside them), a folder
of
such files, or a folder of images with a preprocess file.  An array of an input's own rank is fed in
slices ``[i : i + batch]``; one with an extra leading axis gives one whole input ``[i]`` per sample.
Nothing is held in memory but the current batch.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from ..ir.errors import DataError, nearest
from ..ir.graph import Graph
from ..ir.types import Array, Dim, numpy_dtype
from .columns import LABELS, Column, columns
from .images import Preprocess

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputSpec:
    """What a network's input takes."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"input {self.name!r} takes {self.dtype}{list(self.shape)}"


def specs_of(graph: Graph) -> list[InputSpec]:
    """The inputs of a graph."""
    return [InputSpec(v.name, v.type.dtype, v.type.shape) for v in graph.inputs]


@dataclass(frozen=True)
class Batch:
    """One feed, the labels of its samples, and how many samples are not padding."""

    feed: dict[str, Array]
    labels: Array | None
    start: int
    count: int


def known_shapes(
    found: Mapping[str, Column], specs: Sequence[InputSpec]
) -> dict[str, tuple[int, ...]]:
    """Shapes for inputs with symbolic dimensions, as far as the data show them; a batch is 1."""
    out: dict[str, tuple[int, ...]] = {}
    for spec in specs:
        if all(isinstance(d, int) for d in spec.shape) or spec.name not in found:
            continue
        shape = found[spec.name].shape
        if len(shape) == len(spec.shape) + 1:
            shown: tuple[int, ...] = shape[1:]
        elif len(shape) == len(spec.shape):
            batch = spec.shape[0]
            shown = (batch if isinstance(batch, int) else 1, *shape[1:])
        else:
            continue
        out[spec.name] = shown
    return out


class Dataset:
    """Feeds for a network: iterate it as often as needed.  ``len`` is the number of feeds."""

    def __init__(
        self,
        path: str | Path,
        specs: Sequence[InputSpec],
        preprocess: str | Path | Preprocess | None = None,
        *,
        finite: bool = True,
    ) -> None:
        """Check keys, shapes and element types against ``specs``; ``DataError`` says what is wrong.

        ``finite``: refuse NaN and infinity when they come by.
        """
        self.path = Path(path)
        self.specs = [InputSpec(s.name, s.dtype, tuple(_static(s))) for s in specs]
        self.finite = finite
        found = columns(path, [s.name for s in self.specs], preprocess)
        self._columns = {s.name: self._fitting(s, found) for s in self.specs}
        self._labels = found.get(LABELS) if LABELS not in self._columns else None
        self.samples, self.batch, self._feeds = self._count()

    def __len__(self) -> int:
        return self._feeds

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for batch in self.batches():
            yield batch.feed

    @property
    def has_labels(self) -> bool:
        """Whether there are labels."""
        return self._labels is not None

    @property
    def labels(self) -> Array | None:
        """All labels at once."""
        if self._labels is None:
            return None
        return np.concatenate(list(self._labels.blocks(1024)))

    def batches(self) -> Iterator[Batch]:
        """Feeds with labels.  A last, partial batch is filled up with its last sample."""
        streams = [self._stream(s) for s in self.specs]
        labels = self._labels.blocks(self.batch) if self._labels is not None else None
        for index in range(self._feeds):
            feed = {s.name: next(a) for s, a in zip(self.specs, streams, strict=True)}
            start = index * self.batch
            count = min(self.batch, self.samples - start)
            yield Batch(feed, next(labels) if labels is not None else None, start, count)

    def _stream(self, spec: InputSpec) -> Iterator[Array]:
        column = self._columns[spec.name]
        whole = len(column.shape) == len(spec.shape) + 1
        size = 1 if whole else _batch_of(spec)
        where = f"{self.path}: array {spec.name!r}"
        for index, block in enumerate(column.blocks(size)):
            array = cast(block, spec.dtype, where)
            if self.finite:
                check_finite(array, spec.name, index * size)
            if len(array) < size:
                array = np.concatenate([array, np.repeat(array[-1:], size - len(array), 0)])
            yield np.asarray(array[0]) if whole else array

    def _fitting(self, spec: InputSpec, found: Mapping[str, Column]) -> Column:
        if spec.name not in found:
            hint = nearest(spec.name, found) if found else "it holds no arrays"
            raise DataError(f"{self.path} has no array {spec.name!r}; {hint}")
        column = found[spec.name]
        shape = column.shape
        tail = spec.shape if len(shape) == len(spec.shape) + 1 else spec.shape[1:]
        if len(shape) not in (len(spec.shape), len(spec.shape) + 1) or shape[1:] != tail:
            raise DataError(
                f"{self.path}: array {spec.name!r} is {column.dtype}{list(shape)} "
                f"(samples on axis 0), but {spec}"
            )
        check_castable(column.dtype, spec.dtype, f"{self.path}: array {spec.name!r}")
        if shape[0] == 0:
            raise DataError(f"{self.path}: array {spec.name!r} holds no samples")
        return column

    def _count(self) -> tuple[int, int, int]:
        """Samples, samples per feed, feeds; all inputs must agree."""
        feeds: dict[str, int] = {}
        samples, batch = 0, 1
        for spec in self.specs:
            shape = self._columns[spec.name].shape
            sliced = len(shape) == len(spec.shape)
            size = _batch_of(spec) if sliced else 1
            feeds[spec.name] = ceil(shape[0] / size)
            if size >= batch:
                samples, batch = shape[0], size
        if len(set(feeds.values())) != 1:
            counts = ", ".join(f"{k!r} {v}" for k, v in feeds.items())
            raise DataError(f"{self.path}: the inputs have different numbers of samples: {counts}")
        if self._labels is not None and self._labels.shape[0] != samples:
            raise DataError(f"{self.path}: {self._labels.shape[0]} labels for {samples} samples")
        return samples, batch, next(iter(feeds.values()))


class Feeds:
    """Feeds that a Python program gives, checked against the network's inputs as they go by."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]], specs: Sequence[InputSpec]) -> None:
        if iter(feeds) is feeds:
            raise DataError(
                "calibration data is read several times: give a list or another re-iterable, "
                "not an iterator"
            )
        self._feeds = feeds
        self.specs = list(specs)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for index, feed in enumerate(self._feeds):
            yield {s.name: self._array(s, feed, index) for s in self.specs}

    def _array(self, spec: InputSpec, feed: Mapping[str, Array], index: int) -> Array:
        if spec.name not in feed:
            raise DataError(f"feed {index} has no array {spec.name!r}; {nearest(spec.name, feed)}")
        array = cast(np.asarray(feed[spec.name]), spec.dtype, f"feed {index}: array {spec.name!r}")
        if array.shape != spec.shape:
            raise DataError(f"feed {index}: array {spec.name!r} is {list(array.shape)}, but {spec}")
        check_finite(array[None], spec.name, index)
        return array


def check_castable(have: np.dtype[np.generic], want: str, where: str) -> None:
    """``DataError`` if no value of one type may stand for the other: texts, reals for integers."""
    kinds = {"f": "bif", "V": "bif", "i": "bi", "u": "bi", "b": "b", "O": "U"}[
        numpy_dtype(want).kind
    ]
    kind = have.kind.replace("u", "i")
    if kind not in kinds:
        raise DataError(f"{where} is {have}, but the network takes {want}; convert it first")
    if have.kind == "f" and have.itemsize > np.dtype(want).itemsize:
        log.info("%s is %s and is rounded to %s", where, have, want)


def cast(array: Array, dtype: str, where: str) -> Array:
    """``array`` as ``dtype``: reals are rounded, integers must stay what they are."""
    if array.dtype == dtype:
        return array
    check_castable(array.dtype, dtype, where)
    with np.errstate(over="ignore"):
        out = array.astype(dtype)
    if array.dtype.kind == "f":
        if np.isinf(out).any() and not np.isinf(array).any():
            raise DataError(f"{where} has numbers that are too large for {dtype}")
    elif not np.array_equal(out.astype(array.dtype), array):
        raise DataError(f"{where} has integers that {dtype} cannot hold exactly")
    return np.asarray(out)


def check_finite(block: Array, name: str, start: int) -> None:
    """``DataError`` naming the first sample (axis 0, counted from ``start``) that is not finite."""
    if block.dtype.kind != "f":
        return
    good = np.isfinite(block).reshape(len(block), -1).all(1)
    if not good.all():
        raise DataError(
            f"input {name!r}, sample {start + int(good.argmin())} (counted from 0): "
            "contains NaN or infinity"
        )


def _static(spec: InputSpec) -> Iterator[int]:
    for dim in spec.shape:
        if not isinstance(dim, int):
            raise DataError(
                f"dimension {dim!r} of input {spec.name!r} is not known; give --input-shape "
                f"{spec.name}=..."
            )
        yield dim


def _batch_of(spec: InputSpec) -> int:
    """Samples per feed of an input that is fed in slices."""
    batch = spec.shape[0]
    return batch if isinstance(batch, int) else 1
