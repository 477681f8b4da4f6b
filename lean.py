"""TVM without torch, in programs of qc's own.

TVM imports torch where it is installed, which takes longer than all the rest of it, and nothing
here asks it about torch.  A program that uses qc as a library may want both: so only the command
line does this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Alone(Loader):
    """Loads as another loader does, while there is no torch."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        hides = "torch" not in sys.modules
        if hides:
            sys.modules["torch"] = None  # type: ignore[assignment]  # cannot be imported
        try:
            self._loader.exec_module(module)
        finally:
            if hides:
                del sys.modules["torch"]


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in ("tvm", "tvm_ffi"):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Alone(spec.loader)
        return spec


@contextmanager
def tvm_without_torch() -> Iterator[None]:
    """Inside, TVM is imported as if torch were not installed, unless torch is there already."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
