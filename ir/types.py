"""Types of values: element type, shape, and how the numbers are quantized.

A dimension is an ``int`` or the name of a symbol (``"batch"``).  Element types carry numpy's names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import ml_dtypes  # noqa: F401  its import gives numpy the names of its types
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Dim = int | str
Shape = tuple[Dim, ...]

NARROW = (
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn", "int4", "uint4", "int2", "uint2",
)  # fmt: skip
"""Types of ``ml_dtypes``: stored (one byte per element) and converted, never computed with."""

DTYPES = (
    "float32", "float64", "float16", "bool", "int8", "uint8", "int16", "uint16",
    "int32", "uint32", "int64", "uint64", "bfloat16", "string", *NARROW,
)  # fmt: skip


@dataclass(frozen=True)
class PerTensor:
    """One scale and zero point for the whole tensor."""


@dataclass(frozen=True)
class PerAxis:
    """One scale and zero point for each index of ``axis``."""

    axis: int


@dataclass(frozen=True)
class PerGroup:
    """One scale and zero point for each run of ``size`` elements along ``axis``."""

    axis: int
    size: int


@dataclass(frozen=True)
class Block:
    """One shared exponent for each run of ``size`` elements along ``axis`` (BFP, OCP MX)."""

    axis: int
    size: int


Granularity = PerTensor | PerAxis | PerGroup | Block


@dataclass(frozen=True)
class Quantization:
    """What the integers of a tensor stand for: ``real = (q - zero_point) * scale``.

    ``scale`` and ``zero_point`` hold one number per tensor, channel or group; where they are only
    known at run time (dynamic quantization) they name the SSA value that holds them.
    """

    scale: tuple[float, ...] | str
    zero_point: tuple[int, ...] | str = (0,)
    granularity: Granularity = PerTensor()


@dataclass(frozen=True)
class TensorType:
    """Element type, shape and, for integers that stand for reals, their quantization."""

    dtype: str
    shape: Shape
    quant: Quantization | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating point numbers."""
        return self.dtype in ("float32", "float64", "float16", "bfloat16")

    @property
    def static(self) -> tuple[int, ...]:
        """The shape if all dimensions are known; ``ValueError`` names the first symbol."""
        for d in self.shape:
            if not isinstance(d, int):
                raise ValueError(f"dimension {d!r} of {self} is not known")
        return tuple(d for d in self.shape if isinstance(d, int))

    @property
    def size(self) -> int:
        """Number of elements of a static shape."""
        return prod(self.static)

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory."""
        return numpy_dtype(self.dtype).itemsize

    def with_shape(self, shape: Sequence[Dim]) -> "TensorType":
        """The same element type and quantization with another shape."""
        return replace(self, shape=tuple(shape))

    def with_dtype(self, dtype: str, quant: Quantization | None = None) -> "TensorType":
        """The same shape with another element type."""
        return TensorType(dtype, self.shape, quant)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of elements of type ``name``."""
    return np.dtype(object if name == "string" else name)


def type_of(array: Array) -> TensorType:
    """The type of a numpy array."""
    return TensorType(dtype_of(array), tuple(int(d) for d in array.shape))


def dtype_of(array: Array) -> str:
    """Our name of an array's element type; strings are objects in numpy."""
    return "string" if array.dtype.kind in "OU" else array.dtype.name
