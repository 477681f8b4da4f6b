"""Reading an ONNX file: external data, local functions, opset, order of nodes, what is missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from onnx_graphsurgeon.logger import G_LOGGER

from ..ir.errors import FrontendError
from ..ir.types import Array
from .external_data import attach

OLDEST, NEWEST = 6, onnx.defs.onnx_opset_version()
STANDARD = ("", "ai.onnx")
CONTRIB_DOMAIN = "com.microsoft"
"""onnxruntime's own operators."""


def read(path: Path) -> onnx.ModelProto:
    """The model without its external data; ``FrontendError`` says what is wrong with the file."""
    if not path.is_file():
        raise FrontendError(f"{path}: no such file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise FrontendError(f"{path}: not an ONNX file, or a truncated one") from error
    except OSError as error:
        raise FrontendError(f"{path}: cannot be read: {error.strerror}") from error
    if not model.graph.node and not model.graph.output:
        raise FrontendError(f"{path}: not an ONNX file, or an empty one: it has no nodes")
    return model


def read_weights(path: Path, model: onnx.ModelProto) -> dict[str, Array]:
    """Load the external data of the model at ``path``; those that are mapped instead, by name.

    A model that is to be converted to another opset gets all of them.
    """
    try:
        return attach(model, path.resolve().parent, mapping=_version(model) >= OLDEST)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise FrontendError(f"{path}: cannot read its external data: {reason}") from error


def versions(model: onnx.ModelProto) -> dict[str, int]:
    """The version of each domain of operators that the model uses, the standard one included."""
    found = {o.domain: int(o.version) for o in model.opset_import}
    if not any(d in found for d in STANDARD):
        if not found or any(n.domain in STANDARD for n in model.graph.node):
            raise FrontendError("the model names no opset of the standard domain; export it again")
        found[""] = NEWEST
    return found


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, converted by ``onnx`` if its opset is older than ``OLDEST``."""
    version = _version(model)
    if not 1 <= version <= NEWEST:
        raise FrontendError(f"opset {version} is not in 1..{NEWEST}; install a newer onnx")
    if version >= OLDEST:
        return model
    try:
        return onnx.version_converter.convert_version(model, OLDEST)
    except Exception as error:  # the library raises its own kinds
        reason = " ".join(str(error).split())
        raise FrontendError(f"opset {version} cannot be converted to {OLDEST}: {reason}") from error


def _version(model: onnx.ModelProto) -> int:
    return next(v for d, v in versions(model).items() if d in STANDARD)


def decode(model: onnx.ModelProto) -> gs.Graph:
    """The model's graph with local functions inlined and attributes as Python values."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    G_LOGGER.severity = G_LOGGER.CRITICAL
    try:
        return gs.import_onnx(model)
    except Exception as error:  # the library raises its own kinds for damaged models
        raise FrontendError(f"cannot decode the model: {' '.join(str(error).split())}") from error


def ordered(nodes: Sequence[gs.Node], outer: Iterable[str]) -> list[gs.Node]:
    """``nodes`` so that each follows what it reads; ``outer`` are the names known from outside.

    Raises ``FrontendError`` for a name that nothing defines, a name defined twice, and a cycle.
    """
    makers: dict[str, gs.Node] = {}
    defined = set(outer)
    for node in nodes:
        for name in (t.name for t in node.outputs if t.name):
            if name in makers or name in defined:
                raise FrontendError(f"{name!r} is defined twice, the second time by {label(node)}")
            makers[name] = node
    position = {id(node): i for i, node in enumerate(nodes)}
    waits: dict[int, set[int]] = {}
    users: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        waits[i] = set()
        for name in reads(node):
            if name in makers:
                waits[i].add(position[id(makers[name])])
            elif name not in defined:
                raise FrontendError(
                    f"{label(node)} reads {name!r}, which no node, input or initializer defines"
                )
        for maker in waits[i]:
            users.setdefault(maker, []).append(i)
    out: list[gs.Node] = []
    ready = sorted((i for i, w in waits.items() if not w), reverse=True)
    while ready:
        i = ready.pop()
        out.append(nodes[i])
        for user in sorted(users.get(i, ()), reverse=True):
            waits[user].discard(i)
            if not waits[user]:
                ready.append(user)
    if len(out) < len(nodes):
        stuck = [label(nodes[i]) for i, w in waits.items() if w]
        raise FrontendError(f"the graph has a cycle through {', '.join(stuck[:4])}")
    return out


def reads(node: gs.Node) -> list[str]:
    """The names that a node reads, those its inner graphs take from outside included."""
    names = [t.name for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            names += captured(value)
    return names


def captured(graph: gs.Graph) -> list[str]:
    """The names that an inner graph takes from outside."""
    inner = {t.name for n in graph.nodes for t in n.outputs} | {t.name for t in graph.inputs}
    loose = [t.name for t in graph.outputs if not isinstance(t, gs.Constant)]
    used = [*(name for n in graph.nodes for name in reads(n)), *loose]
    return [name for name in dict.fromkeys(used) if name not in inner]


def label(node: gs.Node) -> str:
    """A node in a message."""
    return f"node {title(node)!r} ({node.op})"


def title(node: gs.Node) -> str:
    """The node's name, else that of its first result."""
    return str(node.name or next((t.name for t in node.outputs if t.name), "?"))
