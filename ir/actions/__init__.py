"""What can be done to coupled channels: the only code that edits weights along a coupled axis."""

from .delete import delete
from .mask import mask
from .permute import permute

__all__ = ["delete", "mask", "permute"]
