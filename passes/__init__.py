"""Graph to graph: the manager, the recipes, one pass per file.  The classes load on first use."""

from .base import Kind, Pass
from .context import Context
from .ledger import Ledger, Row
from .manager import PassManager
from .table import PASSES, pass_class

__all__ = ["Context", "Kind", "Ledger", "Pass", "PassManager", "Row"]

_CLASSES = {where.partition(":")[2]: name for name, where in PASSES.items()}


def __getattr__(name: str) -> type[Pass]:
    if name in _CLASSES:
        return pass_class(_CLASSES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_CLASSES])
