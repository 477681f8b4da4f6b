"""Running a model over a data set: metrics, collected outputs, comparison of two runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Batch, Dataset
from ..ir.errors import DataError
from ..ir.types import Array
from ..progress import Progress, Silent
from .metrics import default_metric, metric, trimmed

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Score:
    """A metric over a data set."""

    metric: str
    value: float
    samples: int


def score(
    run: Run,
    outputs: Sequence[str],
    data: Dataset,
    name: str | None = None,
    reference: Run | None = None,
    progress: Progress | None = None,
) -> Score:
    """Run all samples and judge the outputs, in the order ``outputs``, by labels or ``reference``.

    Without a ``name`` the labels decide; see ``metrics.default_metric``.
    """
    one = metric(name or default_name(data, reference is not None))
    if one.needs_reference and reference is None:
        raise DataError(f"metric {one.name!r} compares two models; give --against MODEL")
    for batch in reported(data, f"evaluate {one.name}", progress):
        ours = _values(run, batch, outputs, data.batch)
        needs = reference if one.needs_reference else None
        theirs = _values(needs, batch, outputs, data.batch) if needs is not None else []
        one.update(ours, batch.labels, theirs, batch.count)
    return Score(one.name, one.value, one.samples)


def default_name(data: Dataset, compared: bool) -> str:
    """The metric for a data set by its first labels."""
    first = next(data.batches())
    labels = first.labels
    return default_metric(labels, compared)


def collect(
    run: Run, outputs: Sequence[str], data: Dataset, progress: Progress | None = None
) -> dict[str, Array]:
    """All outputs by name: concatenated on axis 0 where that is the batch, else stacked."""
    rows: dict[str, list[Array]] = {name: [] for name in outputs}
    for batch in reported(data, "run", progress):
        for name, array in zip(outputs, _values(run, batch, outputs, data.batch), strict=True):
            rows[name].append(array)
    return {name: join(arrays, data.batch) for name, arrays in rows.items()}


def join(arrays: Sequence[Array], batch: int) -> Array:
    """The outputs of all feeds as one array (``batch``: samples per feed)."""
    if arrays[0].ndim and arrays[0].shape[0] == batch:
        return np.concatenate(arrays)
    return np.stack(arrays)


def reported(data: Dataset, what: str, progress: Progress | None) -> Iterator[Batch]:
    """The batches, with progress."""
    show = progress or Silent()
    show.start(what, len(data))
    for batch in data.batches():
        yield batch
        show.advance()
    show.done()


def _values(run: Run, batch: Batch, outputs: Sequence[str], size: int) -> list[Array]:
    found = run(batch.feed)
    return trimmed([np.asarray(found[name]) for name in outputs], size, batch.count)


@dataclass
class Difference:
    """How far two runs of one graph are apart, output by output."""

    values: int = 0
    differing: int = 0
    far: int = 0
    relative: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    by_output: dict[str, int] = field(default_factory=dict)

    def update(self, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> None:
        """Take in one feed.

        ``far`` counts values that differ by more than 1e-5 of the output's greatest magnitude.
        """
        for name, a in ours.items():
            b = theirs[name]
            count = int(np.count_nonzero(_unequal(a, b)))
            self.values += a.size
            self.differing += count
            self.by_output[name] = self.by_output.get(name, 0) + count
            self.signal += float(np.square(b[np.isfinite(b)], dtype=np.float64).sum())
            if count:
                self._magnitude(a.astype(np.float64), b.astype(np.float64))

    def _magnitude(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        gap = np.where(np.isnan(a) & np.isnan(b), 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) or 1.0
        self.relative = max(self.relative, float(gap.max()) / scale)
        self.far += int((gap > 1e-5 * scale).sum())
        self.noise += float(np.square(gap).sum())

    def passes(self, islands: bool, tolerance_db: float | None = None) -> bool:
        """Equal bit for bit; with float islands: at most 0.1 % of the values further than 1e-5.

        A code that an island moves to the next step moves all that is computed from it, so what
        lies 40 dB below the outputs, well under the noise of 8 bits, passes too; or what lies
        ``tolerance_db`` below them (``layers.tolerance_db``).
        """
        if not islands:
            return self.differing == 0
        db = 40.0 if tolerance_db is None else min(tolerance_db, 40.0)
        return self.far <= self.values / 1000 or self.noise < 10 ** (-db / 10) * self.signal

    def __str__(self) -> str:
        text = f"{self.differing} of {self.values} values differ from the reference"
        if self.differing:
            text += f" ({self.far} by more than 1e-5, at most {self.relative:.2g} relative)"
        return text


def _unequal(a: Array, b: Array) -> Array:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise DataError(
            f"outputs {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)} differ in type"
        )
    if a.dtype.kind == "f":
        return np.asarray(~((a == b) | (np.isnan(a) & np.isnan(b))))
    return np.asarray(a != b)
