"""The text form of a graph: what people read, and a file format that round-trips.

::

    graph "net" {
      input %x: float32[1,3,8,8]
      const %w: float32[4,3,3,3] = sha256:5f2c...
      const %s: float32[1] = [0.5]
      %y: float32[1,4,6,6] = Conv(%x, %w, _) {strides=(1, 1)} @ "conv1" fold-batchnorm
      output %y
      state %h -> %h_next
      property canonical
    }

Constants of at most eight elements stand inline, larger ones by hash; their data lie beside the
text in a safetensors file (:func:`save`, :func:`load`), integers without bits that none of them
uses (``stored``).  Names with blanks, brackets or letters
beyond ASCII are written percent-encoded.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from .errors import FrontendError
from .graph import Graph, Node, Origin, Value
from .stored import is_packed, packed, unpacked
from .types import (
    NARROW,
    Array,
    Block,
    PerAxis,
    PerGroup,
    PerTensor,
    Quantization,
    TensorType,
    numpy_dtype,
)  # fmt: skip

INLINE = 8
TEXT_FILE, DATA_FILE = "graph.txt", "graph.safetensors"


# -- writing -------------------------------------------------------------------------------------


def format_graph(graph: Graph) -> str:
    """The text form of ``graph``."""
    lines = [f"graph {json.dumps(graph.name)} {{"]
    lines += [f"  input {ref(v)}: {format_type(v.type)}" for v in graph.inputs]
    lines += [f"  const {ref(v)}: {format_type(v.type)} = {_payload(v)}" for v in graph.constants]
    lines += [f"  {format_node(node)}" for node in graph.nodes]
    lines += [f"  output {ref(v)}" for v in graph.outputs]
    lines += [f"  state %{quote(a)} -> %{quote(b)}" for a, b in graph.states]
    lines += [f"  property {p}" for p in sorted(graph.properties)]
    return "\n".join([*lines, "}"])


def ref(value: Value) -> str:
    """How a value is referred to: ``%name``."""
    return "%" + quote(value.name, safe="/:._-")


def format_node(node: Node) -> str:
    """One line of IR text."""
    results = ", ".join(f"{ref(v)}: {format_type(v.type)}" for v in node.outputs)
    operands = ", ".join("_" if v is None else ref(v) for v in node.inputs)
    given = node.op.attributes()
    body = ", ".join(f"{k}={format_attribute(v)}" for k, v in given.items())
    line = f"{results} = {node.op.name}({operands})" + (f" {{{body}}}" if given else "")
    if node.origin != Origin():
        line += " ".join([f" @ {json.dumps(node.origin.source)}", *node.origin.passes])
    return line


def format_type(t: TensorType) -> str:
    """A type as text; a quantized one with its scale and zero point."""
    if t.quant is None:
        return str(t)
    return f"{t}<{format_attribute(t.quant)}>"


def format_attribute(value: object) -> str:
    """A Python literal, or ``Name(field=...)`` for nested dataclasses and graphs."""
    if isinstance(value, Graph):
        return f"graph({json.dumps(format_graph(value))})"
    if is_dataclass(value) and not isinstance(value, type):
        inner = (
            f"{f.name}={format_attribute(getattr(value, f.name))}"
            for f in fields(value)
            if getattr(value, f.name) != f.default
        )
        return f"{type(value).__name__}({', '.join(inner)})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{format_attribute(v)}, " for v in value).rstrip(" ") + ")"
    if isinstance(value, float) and not np.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, np.generic):
        return repr(value.item())
    return repr(value)


def _payload(value: Value) -> str:
    data = value.data
    assert data is not None
    if value.type.dtype == "string":
        return json.dumps([str(s) for s in data.ravel()])
    if data.size <= INLINE and data.dtype.kind in "fiub" and data.dtype.name not in NARROW:
        return json.dumps(data.ravel().tolist())
    return f"sha256:{digest(data)}"


def digest(data: Array) -> str:
    """A hash of the elements, for naming large constants."""
    return hashlib.sha256(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data).hexdigest()[
        :32
    ]


def save(graph: Graph, directory: Path) -> None:
    """Write ``graph.txt`` and ``graph.safetensors`` into an existing directory."""
    from safetensors.numpy import save_file

    large = dict(
        _storable(np.ascontiguousarray(v.data))
        for v in (v for g in (graph, *inner_graphs(graph)) for v in g.constants)
        if v.data is not None and _payload(v).startswith("sha256:")
    )
    save_file(dict(sorted(large.items())), directory / DATA_FILE)
    (directory / TEXT_FILE).write_text(format_graph(graph) + "\n", encoding="utf-8")
    # safetensors lets nobody but the owner read; the files belong together.
    (directory / DATA_FILE).chmod((directory / TEXT_FILE).stat().st_mode)


def inner_graphs(graph: Graph) -> Iterator[Graph]:
    """The graphs inside the ops of ``graph``, and those inside them."""
    for node in graph.nodes:
        for inner in (v for v in vars(node.op).values() if isinstance(v, Graph)):
            yield inner
            yield from inner_graphs(inner)


def _storable(data: Array) -> tuple[str, Array]:
    """The name and form of a constant in the file: elements that it does not know as bytes."""
    if is_packed(data):
        return _packed_name(digest(data), data.dtype.name), packed(data)
    return digest(data), data.view(np.uint8) if data.dtype.name in NARROW else data


def _packed_name(name: str, dtype: str) -> str:
    return f"{name}.packed-{dtype}"


# -- reading -------------------------------------------------------------------------------------


def load(directory: Path) -> Graph:
    """Read what :func:`save` wrote; ``FrontendError`` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        data = load_file(directory / DATA_FILE)
        text = (directory / TEXT_FILE).read_text(encoding="utf-8")
    except (OSError, SafetensorError, UnicodeDecodeError) as error:
        raise FrontendError(f"{directory}: cannot read the graph: {error}") from error
    return parse(text, data)


def parse(text: str, data: Mapping[str, Array] | None = None) -> Graph:
    """The graph of a text form; ``data`` has the large constants by hash.

    Raises ``FrontendError`` with the line that cannot be read.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    head = re.fullmatch(r"graph (\".*\") \{", lines[0]) if lines else None
    if head is None or lines[-1] != "}":
        raise FrontendError('not a graph in text form (it begins with: graph "name" {)')
    graph = Graph(json.loads(head[1]))
    for number, line in enumerate(lines[1:-1], 2):
        try:
            _line(graph, line, data or {})
        except (ValueError, KeyError, SyntaxError, IndexError, TypeError) as error:
            raise FrontendError(f"line {number} of the text form: {error}: {line}") from error
    return graph


def _line(graph: Graph, line: str, data: Mapping[str, Array]) -> None:
    word, _, rest = line.partition(" ")
    if word == "input":
        name, t = _typed(rest)
        graph.input(name, t)
    elif word == "const":
        typed, _, payload = rest.rpartition(" = ")
        name, t = _typed(typed)
        graph._own(Value(name, t, _array(payload, t, data)))
    elif word == "output":
        graph.outputs.append(graph[_name(rest)])
    elif word == "state":
        before, _, after = rest.partition(" -> ")
        graph.states.append((_name(before), _name(after)))
    elif word == "property":
        graph.properties.add(rest)
    else:
        _node(graph, line, data)


_NODE = re.compile(r"(?P<results>%.*?) = (?P<op>\w+)\((?P<operands>[^()]*)\)(?P<rest>.*)")


def _node(graph: Graph, line: str, data: Mapping[str, Array]) -> None:
    from .ops import OPS

    found = _NODE.fullmatch(line)
    if found is None:
        raise ValueError("neither a declaration nor a node")
    attributes, origin = found["rest"].strip(), Origin()
    if (at := _origin_at(attributes)) >= 0:
        origin = _origin(attributes[at + 2 :])
        attributes = attributes[:at].strip()
    op = OPS[found["op"]](**_attributes(attributes[1:-1], data))
    operands = [None if o == "_" else graph[_name(o)] for o in found["operands"].split(", ") if o]
    typed = [_typed(t) for t in _split_results(found["results"])]
    node = graph.add(op, operands, names=[n for n, _ in typed], origin=origin)
    for value, (name, t) in zip(node.outputs, typed, strict=True):
        if value.name != name or value.type != t:
            raise ValueError(f"infers {value!r}")


def _origin_at(rest: str) -> int:
    """Where ``@ "source" passes`` starts, at the end of the line, or -1."""
    found = re.search(r'@ "(?:[^"\\]|\\.)*"(?: [\w.-]+)*$', rest)
    return found.start() if found else -1


def _origin(text: str) -> Origin:
    source, end = json.JSONDecoder().raw_decode(text)
    return Origin(source, tuple(text[end:].split()))


def _split_results(text: str) -> list[str]:
    return re.split(r", (?=%)", text)


def _typed(text: str) -> tuple[str, TensorType]:
    name, _, t = text.partition(": ")
    return _name(name), parse_type(t)


def _name(text: str) -> str:
    if not text.startswith("%"):
        raise ValueError(f"expected %name, not {text!r}")
    return unquote(text[1:])


_TYPE = re.compile(r"(?P<dtype>\w+)\[(?P<dims>[^\]]*)\](?:<(?P<quant>.*)>)?")


def parse_type(text: str) -> TensorType:
    """A type from its text form; ``ValueError`` otherwise."""
    found = _TYPE.fullmatch(text)
    if found is None:
        raise ValueError(f"not a type: {text!r}")
    dims = (d for d in found["dims"].split(",") if d)
    shape = tuple(int(d) if re.fullmatch(r"-?\d+", d) else d for d in dims)
    quant = _literal(ast.parse(found["quant"], mode="eval").body) if found["quant"] else None
    if not isinstance(quant, Quantization | None):
        raise ValueError(f"not a quantization: {found['quant']}")
    return TensorType(found["dtype"], shape, quant)


def _array(payload: str, t: TensorType, data: Mapping[str, Array]) -> Array:
    if payload.startswith("sha256:"):
        name = payload[7:]
        if (few := data.get(_packed_name(name, t.dtype))) is not None:
            return unpacked(few, t.static, t.dtype)
        stored = data[name]
        same = stored.view(t.dtype) if t.dtype in NARROW else stored.astype(t.dtype, copy=False)
        return same.reshape(t.static)
    return np.array(json.loads(payload), numpy_dtype(t.dtype)).reshape(t.static)


def _attributes(text: str, data: Mapping[str, Array]) -> dict[str, object]:
    call = ast.parse(f"_({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(k.arg): _literal(k.value, data) for k in call.keywords}


def _literal(tree: ast.expr, data: Mapping[str, Array] | None = None) -> object:
    """The value of a literal, also of nested ``Name(field=...)`` calls."""
    from .ops import OPS
    from .ops.integer import Epilogue, Residual

    if isinstance(tree, ast.Tuple):
        return tuple(_literal(e, data) for e in tree.elts)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        if tree.func.id in ("graph", "float"):
            text = str(ast.literal_eval(tree.args[0]))
            return parse(text, data) if tree.func.id == "graph" else float(text)
        makers = (PerTensor, PerAxis, PerGroup, Block, Quantization, Epilogue, Residual)
        make = ({m.__name__: m for m in makers} | OPS)[tree.func.id]
        return make(**{str(k.arg): _literal(k.value, data) for k in tree.keywords})  # type: ignore[arg-type]
    return ast.literal_eval(tree)
