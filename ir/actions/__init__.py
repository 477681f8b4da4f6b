"""What can be done to coupled channels: the only code that edits weights along a coupled axis."""

from .delete import delete
from .mask import mask
from .permute import permute
from .rotate import rotate
from .scale import scale
from .shift import shift

__all__ = ["delete", "mask", "permute", "rotate", "scale", "shift"]
