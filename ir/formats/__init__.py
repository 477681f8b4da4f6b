"""Number formats below 8 bits and of blocks: encode, decode, pack, unpack."""

from .base import Encoded, Format
from .bfp import Bfp
from .logarithmic import Logarithmic
from .minifloat import Minifloat
from .mx import Mx
from .names import EXAMPLES, parse
from .scaled import Scaled, ScaledFloat, ScaledInt

__all__ = [
    "EXAMPLES",
    "Bfp",
    "Encoded",
    "Format",
    "Logarithmic",
    "Minifloat",
    "Mx",
    "Scaled",
    "ScaledFloat",
    "ScaledInt",
    "parse",
]
