"""Powers of two or of its root, for what a softmax makes.

Source: Li et al., "RepQ-ViT", 2023, section 3.3 (log sqrt2), which is log2 with a parity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..types import Array
from .scaled import Scaled, factors


@dataclass(frozen=True)
class Logarithmic(Scaled):
    """``factor * 2**-(q / steps)`` for numbers that are not negative; the greatest code is 0.

    ``steps`` per binade: 1 (log2) or 2 (log sqrt2: ``2**-ceil(q / 2)``, times the root of 2 where
    ``q`` is odd).  What is below the least power becomes 0, what is negative, too.
    """

    width: int = 4
    steps: int = 2

    top: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        """Refuse widths that codes cannot have."""
        if not 2 <= self.width <= 8 or self.steps not in (1, 2):
            raise ValueError(f"log formats take 2 to 8 bits and 1 or 2 steps, not {self}")

    @property
    def name(self) -> str:
        return f"log{'2' if self.steps == 1 else 'sqrt2'}-{self.width}bit"

    @property
    def bits(self) -> int:
        return self.width

    @property
    def _zero(self) -> int:
        return (1 << self.width) - 1

    def codes(self, x: Array, scales: Array) -> Array:
        with np.errstate(divide="ignore"):
            q = np.rint(-self.steps * np.log2(np.maximum(x, 0) / factors(scales)))
        return np.where(q >= self._zero, self._zero, np.maximum(q, 0)).astype(np.uint8)

    def values(self, codes: Array, scales: Array) -> Array:
        q = codes.astype(np.int32)
        power = np.ldexp(np.float32(1), -q // self.steps)
        root = np.where(q % self.steps == 1, np.float32(np.sqrt(2)), np.float32(1))
        found = np.where(q == self._zero, np.float32(0), power * root)
        return np.asarray(found * factors(scales))
