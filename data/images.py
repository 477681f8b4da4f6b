"""Folders of images as data: preprocessing from a TOML file, class folders as labels."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.errors import DataError, nearest
from ..ir.types import Array

Pixels = NDArray[np.float32]

SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"])
_COLORS = {"rgb": "RGB", "bgr": "RGB", "grey": "L"}
_LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Preprocess:
    """From an image file to a network's input: ``resize, crop, color, (x - mean) / std, layout``.

    ``size``: ``[height, width]``, or one number: the shorter side, keeping the aspect; bilinear.
    ``crop``: ``[height, width]`` (or one number for a square) cut from the centre after resizing.
    ``mean`` and ``std``: per channel in the order of ``color``, in units of 0..255.
    """

    size: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    color: str = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "nchw"

    def apply(self, path: Path) -> Array:
        """The image as float32, ``[C, H, W]`` or ``[H, W, C]`` by ``layout``."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as file:
                image = file.convert(_COLORS[self.color])
        except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"image {str(path)!r} cannot be read: {error}") from error
        if (size := self._target(image.width, image.height)) != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        raw = np.asarray(image, np.float32)
        cut = self._cropped(raw if raw.ndim == 3 else raw[..., None], path)
        x = cut[..., ::-1] if self.color == "bgr" else cut
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = np.asarray((x - mean) / std, np.float32)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1) if self.layout == "nchw" else scaled)

    def _target(self, width: int, height: int) -> tuple[int, int]:
        if not self.size:
            return width, height
        if len(self.size) == 2:
            return self.size[1], self.size[0]
        scale = self.size[0] / min(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _cropped(self, x: Pixels, path: Path) -> Pixels:
        if not self.crop:
            return x
        height, width = self.crop if len(self.crop) == 2 else self.crop * 2
        top, left = (x.shape[0] - height) // 2, (x.shape[1] - width) // 2
        if top < 0 or left < 0:
            raise DataError(
                f"image {str(path)!r} is {x.shape[0]}x{x.shape[1]}, "
                f"smaller than crop {height}x{width}"
            )
        return x[top : top + height, left : left + width]


def load_preprocess(path: str | Path) -> Preprocess:
    """Read a TOML file; ``DataError`` names a wrong key or value."""
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"preprocess file {str(path)!r} cannot be read: {error}") from error
    known = Preprocess.__dataclass_fields__
    for key in table:
        if key not in known:
            raise DataError(f"{path}: unknown key {key!r}; {nearest(key, known)}")
    values: dict[str, Any] = {
        k: v if k in ("color", "layout") else _numbers(v, k, path) for k, v in table.items()
    }
    preprocess = Preprocess(**values)
    _check(preprocess, path)
    return preprocess


def _numbers(value: object, key: str, path: str | Path) -> tuple[float, ...]:
    items = value if isinstance(value, list) else [value]
    whole = key in ("size", "crop")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int if whole else int | float):
            raise DataError(
                f"{path}: {key} takes {'integers' if whole else 'numbers'}, not {value!r}"
            )
    return tuple(items)


def _check(pre: Preprocess, path: str | Path) -> None:
    for key, value, known in (("color", pre.color, _COLORS), ("layout", pre.layout, _LAYOUTS)):
        if value not in known:
            raise DataError(f"{path}: {key} = {value!r}; {nearest(str(value), known)}")
    for key, size in (("size", pre.size), ("crop", pre.crop)):
        if len(size) > 2 or any(d < 1 for d in size):
            raise DataError(f"{path}: {key} takes one or two positive integers, not {list(size)}")
    channels = 1 if pre.color == "grey" else 3
    for key, numbers in (("mean", pre.mean), ("std", pre.std)):
        if len(numbers) not in (1, channels):
            raise DataError(f"{path}: {key} takes 1 or {channels} numbers, not {len(numbers)}")
    if any(s == 0 for s in pre.std):
        raise DataError(f"{path}: std must not be 0")


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; where they lie in class folders these give the labels.

    A class folder whose name is a number has that label; otherwise labels count the sorted names.
    """

    path: Path
    preprocess: Preprocess = field(repr=False)

    @cached_property
    def files(self) -> list[Path]:
        """All images, sorted by class folder and name."""
        return sorted(p for p in self.path.rglob("*") if p.suffix.lower() in SUFFIXES)

    @cached_property
    def labels(self) -> Array | None:
        """int64 labels by class folder; None where images lie in the folder itself."""
        names = [p.relative_to(self.path).parts[0] for p in self.files]
        if any(p.parent == self.path for p in self.files):
            return None
        return np.array([_class_numbers(names)[n] for n in names], np.int64)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one prepared image."""
        return self.preprocess.apply(self.files[0]).shape


def _class_numbers(names: Sequence[str]) -> dict[str, int]:
    classes = sorted(set(names))
    if all(n.isdigit() for n in classes):
        return {n: int(n) for n in classes}
    return {n: i for i, n in enumerate(classes)}


def has_images(path: Path) -> bool:
    """Whether there is any image below ``path``."""
    return any(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))
