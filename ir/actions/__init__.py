"""What can be done to coupled channels: the only code that edits weights along a coupled axis."""

from .delete import delete
from .mask import mask
from .mix import mix
from .permute import permute
from .permute_within import blocks_of, permute_within
from .rotate import rotate
from .scale import scale
from .shift import shift

__all__ = [
    "blocks_of",
    "delete",
    "mask",
    "mix",
    "permute",
    "permute_within",
    "rotate",
    "scale",
    "shift",
]
