"""Exported PyTorch programs: from a module, from a ``.pt2`` file, from ``module:callable``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..ir.errors import FrontendError, nearest

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.nn import Module

SHOWN = 300
"""Characters of torch's own message in ours."""


def torch_library() -> ModuleType:
    """The library; ``FrontendError`` says how to install it."""
    try:
        return import_module("torch")
    except ImportError as error:
        raise FrontendError(
            "PyTorch models need torch, which is not installed: pip install 'qc-compiler[torch]'"
        ) from error


def read(path: Path) -> ExportedProgram:
    """The program in a ``.pt2`` file; nothing is unpickled but what torch.export itself reads."""
    if not path.is_file():
        raise FrontendError(f"model {str(path)!r} does not exist")
    if not zipfile.is_zipfile(path):
        raise FrontendError(f"{path}: not a program of torch.export.save, or a truncated one")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(n.endswith(".json") for n in names):
        what = "a pickle (torch.save)" if any(n.endswith("data.pkl") for n in names) else "a zip"
        raise FrontendError(
            f"{path}: {what}, not an exported program; write one with "
            "torch.export.save(torch.export.export(module, inputs), 'model.pt2')"
        )
    torch = torch_library()
    with _quiet():
        try:
            program: ExportedProgram = torch.export.load(path)
        except Exception as error:  # torch raises many kinds for damaged files
            raise FrontendError(f"{path}: torch.export.load fails: {_reason(error)}") from error
    return program


def export(module: Module, inputs: object = ()) -> ExportedProgram:
    """``module`` as it behaves in evaluation, traced for example inputs.

    ``inputs``: a tensor, the positional arguments, or keyword arguments by name.  The module keeps
    its mode.
    """
    torch = torch_library()
    args, kwargs = _arguments(inputs)
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with _quiet():
            program: ExportedProgram = torch.export.export(module, args, kwargs)
    except Exception as error:  # torch raises many kinds, and so does the module
        raise FrontendError(f"{_hint(error)}: {_reason(error)}{_place(error)}") from error
    finally:
        for part in training:
            part.training = True
    return program


def _arguments(inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def call(text: str) -> ExportedProgram:
    """The program of ``module:callable``, which returns an nn.Module and example inputs."""
    torch = torch_library()
    found = _run(text)
    if isinstance(found, torch.export.ExportedProgram):
        return found
    if isinstance(found, torch.nn.Module):
        raise FrontendError(f"{text} returns a module without example inputs; return both")
    pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], torch.nn.Module)
    if not pair:
        shown = type(found).__name__
        raise FrontendError(
            f"{text} returns a {shown}, not an nn.Module and its example inputs: "
            "return module, (tensor, ...)"
        )
    try:
        return export(*found)
    except FrontendError as error:
        raise FrontendError(f"{text}: {error}") from error


def _run(text: str) -> Any:
    """What ``module:callable`` returns."""
    name, _, attribute = text.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        owner: Any = import_module(name)
    except Exception as error:  # whatever the user's module does
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise FrontendError(f"{text}: module {name!r} cannot be imported: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(owner, part):
            raise FrontendError(f"{text}: {name} has no {part!r}; {nearest(part, vars(owner))}")
        owner = getattr(owner, part)
    if not callable(owner):
        raise FrontendError(f"{text} is a {type(owner).__name__}, which cannot be called")
    try:
        return owner()
    except Exception as error:  # whatever the user's code does
        reason = f"{type(error).__name__}: {_reason(error)}{_place(error)}"
        raise FrontendError(f"{text} fails: {reason}") from error


def decomposed(program: ExportedProgram, keep: Iterable[str]) -> ExportedProgram:
    """The program without views and mutation, in core ATen ops and those in ``keep``."""
    torch = torch_library()
    table = torch.export.default_decompositions()
    for name in keep:
        packet, _, overload = name.partition(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    with _quiet():
        try:
            lowered: ExportedProgram = program.run_decompositions(table)
        except Exception as error:  # torch raises many kinds
            raise FrontendError(f"torch cannot lower the program: {_reason(error)}") from error
    return lowered


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and logs, which are about its own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first paragraph of a message, on one line."""
    text = " ".join(str(error).strip().split("\n\n")[0].split()) or type(error).__name__
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _hint(error: BaseException) -> str:
    if "data-dependent" in str(error).lower() or "DataDependent" in type(error).__name__:
        return (
            "torch.export cannot trace the module, whose control flow depends on data "
            "(use torch.where)"
        )
    return "torch.export cannot trace the module"


def _place(error: BaseException) -> str:
    """The innermost line of code that is not torch's own."""
    frames = traceback.extract_tb(error.__traceback__)
    library = Path(sys.modules["torch"].__file__ or "").parent
    inside = (str(Path(__file__).parent), str(library), contextlib.__file__, "<")
    own = [f for f in frames if not f.filename.startswith(inside)]
    if not own or own[-1].lineno is None:
        return ""
    return f" (at {Path(own[-1].filename).name}:{own[-1].lineno})"
