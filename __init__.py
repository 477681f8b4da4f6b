"""qc: a compression compiler for neural networks.

The public face is lazy (PEP 562): ``import qc`` imports nothing else, so ``qc --help`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import backends, frontends, ir, passes, targets
    from .api import bench, compile, evaluate, load, to_torch
    from .backends.codegen.artifact import Artifact
    from .gradients import TorchGradients
    from .ir.errors import QcError
    from .ir.graph import Graph
    from .passes.context import Context
    from .passes.manager import PassManager

__version__ = "0.1.0"

_PUBLIC = {
    "load": "api",
    "compile": "api",
    "evaluate": "api",
    "bench": "api",
    "to_torch": "api",
    "Artifact": "backends.codegen.artifact",
    "Context": "passes.context",
    "Graph": "ir.graph",
    "PassManager": "passes.manager",
    "QcError": "ir.errors",
    "TorchGradients": "gradients",
}
_PACKAGES = ("ir", "passes", "frontends", "backends", "targets")

__all__ = [
    "Artifact",
    "Context",
    "Graph",
    "PassManager",
    "QcError",
    "TorchGradients",
    "backends",
    "bench",
    "compile",
    "evaluate",
    "frontends",
    "ir",
    "load",
    "passes",
    "targets",
    "to_torch",
]


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
