"""Where samples come from: arrays in files, in several files, in folders of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..ir.errors import DataError
from ..ir.types import Array
from .images import ImageFolder, Preprocess, has_images, load_preprocess
from .npz import Member, NpzFile

LABELS = "labels"


class Column(Protocol):
    """A long array that is read in blocks of rows."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, samples on axis 0."""

    def blocks(self, size: int) -> Iterator[Array]:
        """The rows in order, ``size`` at a time; only the last block may be shorter."""


@dataclass(frozen=True)
class Chain:
    """The same array of several files, one after the other."""

    members: tuple[Member, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""
        return self.members[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all together."""
        return (sum(m.rows for m in self.members), *self.members[0].shape[1:])

    def blocks(self, size: int) -> Iterator[Array]:
        """Blocks that may span files."""
        rest: list[Array] = []
        for member in self.members:
            for block in member.blocks(size):
                rest.append(block)
                if sum(map(len, rest)) >= size:
                    joined = np.concatenate(rest)
                    yield joined[:size]
                    rest = [joined[size:]] if len(joined) > size else []
        if rest:
            yield np.concatenate(rest)


@dataclass(frozen=True)
class Images:
    """The prepared images of a folder."""

    folder: ImageFolder

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, then the shape of the first one."""
        return (len(self.folder.files), *self.folder.shape)

    def blocks(self, size: int) -> Iterator[Array]:
        """Images are read and prepared one by one."""
        files, shape = self.folder.files, self.folder.shape
        for start in range(0, len(files), size):
            some = [self.folder.preprocess.apply(f) for f in files[start : start + size]]
            for path, image in zip(files[start:], some, strict=False):
                if image.shape != shape:
                    raise DataError(
                        f"image {str(path)!r} becomes {list(image.shape)}, others {list(shape)}; "
                        "set size = [height, width] in the preprocess file"
                    )
            yield np.stack(some)


@dataclass(frozen=True)
class Rows:
    """An array in memory (labels of class folders)."""

    array: Array

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""
        return self.array.shape

    def blocks(self, size: int) -> Iterator[Array]:
        """Slices."""
        for start in range(0, len(self.array), size):
            yield self.array[start : start + size]


def columns(
    path: str | Path, inputs: Sequence[str], preprocess: str | Path | Preprocess | None = None
) -> dict[str, Column]:
    """All arrays at ``path`` by name; images go under the name of the network's only input."""
    path = Path(path)
    if path.is_dir():
        if files := sorted(path.glob("*.npz")):
            return _chained(files)
        return _images(path, inputs, preprocess)
    if not path.exists():
        raise DataError(f"data {str(path)!r} does not exist")
    return dict(NpzFile(path).members)


def _chained(files: list[Path]) -> dict[str, Column]:
    parts = [NpzFile(f).members for f in files]
    for path, part in zip(files, parts, strict=True):
        if part.keys() != parts[0].keys():
            raise DataError(f"{path} holds {sorted(part)}, but {files[0]} holds {sorted(parts[0])}")
        for name, member in part.items():
            first = parts[0][name]
            if (member.dtype, member.shape[1:]) != (first.dtype, first.shape[1:]):
                raise DataError(
                    f"{path}: {name!r} has samples {member.dtype}{list(member.shape[1:])}, "
                    f"but {files[0]} has {first.dtype}{list(first.shape[1:])}"
                )
    return {name: Chain(tuple(part[name] for part in parts)) for name in parts[0]}


def _images(
    path: Path, inputs: Sequence[str], preprocess: str | Path | Preprocess | None
) -> dict[str, Column]:
    if not has_images(path):
        raise DataError(f"folder {str(path)!r} is empty: no .npz files and no images in it")
    if preprocess is None:
        raise DataError(
            f"folder {str(path)!r} holds images: say how to prepare them with --preprocess FILE"
        )
    if len(inputs) != 1:
        raise DataError(
            f"images can feed one input, but the network has {len(inputs)}; use .npz files"
        )
    pre = preprocess if isinstance(preprocess, Preprocess) else load_preprocess(preprocess)
    folder = ImageFolder(path, pre)
    out: dict[str, Column] = {inputs[0]: Images(folder)}
    if folder.labels is not None:
        out[LABELS] = Rows(folder.labels)
    return out
