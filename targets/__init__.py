"""What machines can do: descriptions in TOML, their loader, and detection of this machine."""

from .host import missing_features
from .loader import load, names
from .target import Instruction, Target

__all__ = ["Instruction", "Target", "load", "missing_features", "names"]
