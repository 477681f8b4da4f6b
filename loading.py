"""Models from files and objects: the frontend that fits, shapes made concrete, weights checked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .data.dataset import InputSpec, specs_of
from .ir.errors import DataError, FrontendError, nearest
from .ir.graph import Graph, Node
from .ir.mapped import release

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.export import ExportedProgram
    from torch.nn import Module

log = logging.getLogger(__name__)

Shapes = Mapping[str, Sequence[int]]
Source: TypeAlias = "str | Path | Graph | ModelProto | ExportedProgram | Module"
_PYTORCH = (".pt2", ".pt", ".pth")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def load(
    source: Source, example_inputs: object = None, *, input_shapes: Shapes | None = None
) -> Graph:
    """A network from a file, an ONNX model or PyTorch program in memory, or a graph as it is.

    Files are ``.onnx`` and ``.pt2``; ``module:callable`` names a function that returns an nn.Module
    and its example inputs.  An nn.Module itself needs ``example_inputs``: a tensor, the positional
    arguments, or keyword arguments by name.  ``input_shapes`` makes symbolic dimensions concrete.
    Other formats come from plugins: entry points in the group ``qc.frontends``, named by suffix,
    each a function from a path to a ``Graph``.  Raises ``FrontendError`` for what cannot be read.
    """
    shapes = {k: tuple(v) for k, v in (input_shapes or {}).items()}
    if example_inputs is not None and not is_module(source):
        raise FrontendError("example inputs are for an nn.Module; for others give input_shapes")
    if isinstance(source, Graph):
        return bound(source, shapes)
    if is_pytorch(source):
        graph = bound(_from_pytorch(source, example_inputs), shapes)
    else:
        if isinstance(source, str | Path):
            path = Path(source)
            if path.is_dir():
                raise FrontendError(f"model {str(source)!r} is a folder; give an .onnx file")
            if not path.is_file() and path.suffix in ("", ".onnx"):
                raise FrontendError(f"model {str(source)!r} does not exist")
            if path.suffix != ".onnx":
                return bound(_by_plugin(path), shapes)
        from .frontends import from_onnx

        graph = from_onnx.load(source, shapes or None)
    check_shapes(graph, shapes)
    check_weights(graph)
    return graph


def is_module(source: object) -> bool:
    """Whether ``source`` is an nn.Module; torch is not imported to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def is_pytorch(source: object) -> bool:
    """Whether ``source`` is a program of PyTorch: in memory, a file, or ``module:callable``."""
    if isinstance(source, str | Path):
        path = Path(source)
        return path.suffix in _PYTORCH or (_is_callable(str(source)) and not path.exists())
    return is_module(source) or type(source).__name__ == "ExportedProgram"


def _is_callable(text: str) -> bool:
    return _CALLABLE.fullmatch(text) is not None


def _from_pytorch(source: object, example_inputs: object) -> Graph:
    from .frontends import from_torch, torch_program

    if isinstance(source, str | Path):
        named = _is_callable(str(source))
        program = torch_program.call(str(source)) if named else torch_program.read(Path(source))
    elif is_module(source):
        if example_inputs is None:
            raise FrontendError("an nn.Module needs example inputs: qc.load(module, inputs)")
        program = torch_program.export(source, example_inputs)
    else:
        program = source
    try:
        graph = from_torch.load(program)
    except FrontendError as error:
        where = f"{source}: " if isinstance(source, str | Path) else ""
        raise FrontendError(f"{where}{error}") from error
    _restore_names(graph, getattr(source, "meta", {}))
    return graph


def _restore_names(graph: Graph, meta: Mapping[str, object]) -> None:
    """Inputs and outputs of a module that ``to_torch`` made are called as they were."""
    names = meta.get("qc")
    if not isinstance(names, Mapping):
        return
    for key, values in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if len(names[key]) == len(values):
            for value, name in zip(values, names[key], strict=True):
                graph.rename(value, name)


def _by_plugin(path: Path) -> Graph:
    points = {"." + p.name.lstrip("."): p for p in entry_points(group="qc.frontends")}
    if path.suffix in points:
        graph = points[path.suffix].load()(path)
        assert isinstance(graph, Graph)
        return graph
    raise FrontendError(
        f"model {str(path)!r}: no frontend reads {path.suffix or 'files without a suffix'!r}; "
        f"known: {', '.join(sorted(['.onnx', '.pt2', *points]))}"
    )


def bound(graph: Graph, shapes: Shapes) -> Graph:
    """``graph`` with concrete input shapes."""
    if not shapes:
        return graph
    from .ir.bind import bind

    check_shapes(graph, shapes)
    out = bind(graph, {k: tuple(v) for k, v in shapes.items()})
    check_shapes(out, shapes)
    return out


def check_shapes(graph: Graph, shapes: Shapes) -> None:
    """``DataError`` where shapes name no input or contradict its fixed dimensions."""
    specs = {s.name: s for s in specs_of(graph)}
    for name, shape in shapes.items():
        if name not in specs:
            raise DataError(f"--input-shape {name}: no such input; {nearest(name, specs)}")
        dims = specs[name].shape
        fits = len(dims) == len(shape) and all(
            d == n for d, n in zip(dims, shape, strict=True) if isinstance(d, int)
        )
        if not fits or any(n < 1 for n in shape):
            raise DataError(f"--input-shape {name}={','.join(map(str, shape))}: but {specs[name]}")


def load_concrete(
    source: Source,
    input_shapes: Shapes,
    shown: Callable[[list[InputSpec]], Shapes],
) -> Graph:
    """A network without symbolic dimensions.

    They come from ``input_shapes``, else from what the data have ``shown``, else a batch is 1;
    anything
    else is a ``DataError``.
    """
    # A program is not traced twice: a callable may give another network.
    graph = load(source) if is_pytorch(source) else _declared(source, input_shapes)
    open_specs = [s for s in specs_of(graph) if _symbols(s)]
    if not open_specs:
        return _concrete(source, graph, input_shapes)
    shapes = dict(input_shapes)
    data = shown(open_specs)
    for spec in open_specs:
        merged = _merge(spec, data.get(spec.name))
        if left := _symbols(replace(spec, shape=merged)):
            raise DataError(
                f"dimension {left[0]!r} of input {spec.name!r} is not known; give calibration data "
                f"or --input-shape {spec.name}={','.join(map(str, merged))}"
            )
        shapes[spec.name] = [d for d in merged if isinstance(d, int)]
        log.info("input %r is compiled for shape %s", spec.name, list(merged))
    return _concrete(source, graph, shapes)


def _concrete(source: Source, graph: Graph, shapes: Shapes) -> Graph:
    return bound(graph, shapes) if is_pytorch(source) else load(source, input_shapes=shapes)


def _declared(source: Source, input_shapes: Shapes) -> Graph:
    """A graph with the inputs of the network; a file may need their shapes to be read further."""
    if isinstance(source, Graph) or (isinstance(source, str | Path) and _suffix(source) != ".onnx"):
        return load(source, input_shapes=input_shapes)
    if isinstance(source, str | Path) and not Path(source).is_file():
        return load(source, input_shapes=input_shapes)
    from .frontends import from_onnx

    shapes = {k: tuple(v) for k, v in input_shapes.items()}
    graph = from_onnx.load_inputs(source, shapes or None)
    check_shapes(graph, shapes)
    return graph


def _suffix(source: str | Path) -> str:
    return Path(source).suffix


def _merge(spec: InputSpec, data: Sequence[int] | None) -> tuple[int | str, ...]:
    """Fixed dimensions, then the data's, then 1 for a symbolic batch."""
    if data is not None and len(data) == len(spec.shape):
        return tuple(d if isinstance(d, int) else n for d, n in zip(spec.shape, data, strict=True))
    return tuple(1 if i == 0 and isinstance(d, str) else d for i, d in enumerate(spec.shape))


def _symbols(spec: InputSpec) -> list[str]:
    return [d for d in spec.shape if isinstance(d, str)]


def check_weights(graph: Graph) -> None:
    """``FrontendError`` naming a weight with NaN, or with infinity where it is multiplied."""
    for value in graph.constants:
        if value.data is None or not value.type.is_float:
            continue
        data = value.data.astype(np.float32) if value.type.dtype == "bfloat16" else value.data
        bad = np.isnan(data) if _is_mask(value.uses) else ~np.isfinite(data)
        release(value.data)
        if bad.any():
            user = f" of {value.uses[0].op.name} {value.uses[0].name!r}" if value.uses else ""
            raise FrontendError(
                f"weight {value.name!r}{user} holds {int(bad.sum())} values, NaN or infinite; "
                "repair the model"
            )


def _is_mask(uses: Sequence[Node]) -> bool:
    """Whether infinity may be meant: added, compared or selected, never multiplied."""
    multiply = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "BatchNormalization")
    return not any(u.op.name in multiply for u in uses)
