"""ONNX to :class:`Graph`: opsets 7 to the newest, float32 and float16.

Shape arithmetic and constant ``If`` are folded, ``Identity`` and ``Dropout`` vanish, half precision
is computed in float32 (the graph's inputs and outputs keep their types).  Values keep their ONNX
names.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..ir.builder import Builder
from ..ir.errors import FrontendError, VerifyError, nearest
from ..ir.graph import Graph, Value
from ..ir.mapped import release
from ..ir.ops import Cast, Identity, Opaque
from ..ir.types import Array, Dim, TensorType
from .onnx_control import CONTROL, Enclosed
from .onnx_file import (
    CONTRIB_DOMAIN,
    STANDARD,
    captured,
    decode,
    modern,
    ordered,
    read,
    read_weights,
    title,
    versions,
)
from .onnx_functions import formal, function_of, has_function, instance
from .onnx_inputs import dtype_name, input_type
from .onnx_refused import why
from .onnx_rules import RULES
from .onnx_rules.contrib import CONTRIB
from .onnx_rules.shapes import half_to_single
from .onnx_sequences import SEQUENCES, Items
from .onnx_site import Site, Unsupported
from .onnx_weights import check_finite
from .outputs import HALF, output


def load(
    model: str | PathLike[str] | onnx.ModelProto,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Import a model file or proto.

    ``input_shapes`` fixes the symbolic dimensions of inputs, by name; a symbol is fixed everywhere.
    Raises ``FrontendError``, one line: what is wrong, at which node, what to do; all nodes that are
    not supported are listed at once.
    """
    with _naming(model):
        if isinstance(model, onnx.ModelProto):
            return _Importer(model, input_shapes or {}).run()
        proto = read(Path(model))
        mapped = read_weights(Path(model), proto)
        return _Importer(proto, input_shapes or {}, mapped=mapped).run()


def load_inputs(
    model: str | PathLike[str] | onnx.ModelProto,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The inputs of a model, in a graph without nodes: what :func:`load` would declare."""
    with _naming(model):
        proto = model if isinstance(model, onnx.ModelProto) else read(Path(model))
        importer = _Importer(proto, input_shapes or {})
        importer.declare(decode(proto))
        return importer.graph


@contextmanager
def _naming(model: str | PathLike[str] | onnx.ModelProto) -> Iterator[None]:
    """Errors name the file."""
    where = "" if isinstance(model, onnx.ModelProto) else f"{model}: "
    try:
        yield
    except FrontendError as error:
        if str(error).startswith(where):
            raise
        raise FrontendError(f"{where}{error}") from error


@dataclass
class _Lost:
    """The result of a node that could not be imported."""


Result = Value | Items | _Lost
Env = dict[str, Result]


@dataclass
class _Importer:
    proto: onnx.ModelProto
    input_shapes: Mapping[str, Sequence[int]]
    graph: Graph = field(default_factory=Graph)
    unsupported: dict[str, None] = field(default_factory=dict)
    mapped: Mapping[str, Array] = field(default_factory=dict)

    def run(self) -> Graph:
        self.proto = modern(self.proto)
        self.versions = versions(self.proto)
        source = decode(self.proto)
        self.graph.name = source.name or "graph"
        self.builder = Builder(self.graph)
        env: Env = {}
        self.declare(source)
        self._inputs(env)
        self._nodes(source, env)
        if self.unsupported:
            count = len(self.unsupported)
            listed = "; ".join(self.unsupported)
            raise FrontendError(
                f"{count} node{'s are' if count > 1 else ' is'} not supported: {listed}"
            )
        self._outputs(source, env)
        self.graph.prune()
        return self.graph

    # -- inputs ------------------------------------------------------------------------------

    def declare(self, source: gs.Graph) -> None:
        """Declare the inputs; those that are initializers (IR < 4) are constants."""
        inputs = [t for t in source.inputs if not isinstance(t, gs.Constant)]
        for name in self.input_shapes:
            if name not in (t.name for t in inputs):
                raise FrontendError(f"no input {name!r}; {nearest(name, (t.name for t in inputs))}")
        symbols: dict[str, int] = {}
        types = [input_type(t, self.input_shapes.get(t.name), symbols) for t in inputs]
        for tensor, t in zip(inputs, types, strict=True):
            shape: tuple[Dim, ...] = tuple(symbols.get(str(d), d) for d in t.shape)
            self.graph.input(tensor.name, TensorType(t.dtype, shape))

    def _inputs(self, env: Env) -> None:
        """The declared inputs, half precision as float32."""
        for value in self.graph.inputs:
            env[value.name] = value
            if value.type.dtype in HALF:
                cast = [f"{value.name}.float32"]
                env[value.name] = self.builder.emit(Cast("float32"), [value], cast)[0]

    def _constant(self, tensor: gs.Constant) -> Value:
        found = self.mapped.get(tensor.name)
        array = np.asarray(tensor.values) if found is None else found
        check_finite(tensor, array)
        release(found)
        return self.builder.constant(half_to_single(array), tensor.name)

    # -- nodes -------------------------------------------------------------------------------

    def _nodes(self, source: gs.Graph, env: Env) -> None:
        """Import the nodes of a graph (the network, or the branch of an If that runs)."""
        for node in ordered(source.nodes, env):
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and tensor.name not in env:
                    env[tensor.name] = self._constant(tensor)
            self._node(node, env)

    def _node(self, node: gs.Node, env: Env) -> None:
        ins = [env[t.name] if t.name else None for t in node.inputs]
        while ins and ins[-1] is None:
            ins.pop()
        operands = tuple(v for v in ins if not isinstance(v, _Lost))
        outputs = [t.name for t in node.outputs]
        try:
            lost = len(operands) != len(ins)
            results = self._convert(node, operands, lost, env)
        except Unsupported as reason:
            domain = "" if (node.domain or "") in STANDARD else f"{node.domain}."
            text = f" ({reason})" if str(reason) else ""
            self.unsupported[f"{title(node)!r} {domain}{node.op} opset {self.opset}{text}"] = None
            results = [_Lost() for _ in outputs]
        for name, value in zip(outputs, results, strict=False):
            if name:
                env[name] = value

    def _convert(
        self, node: gs.Node, given: tuple[Value | Items | None, ...], lost: bool, env: Env
    ) -> Sequence[Result]:
        standard = (node.domain or "") in STANDARD
        foreign = not standard and not self._is_defined(node)
        own = standard and any(node.op in table for table in (RULES, CONTROL, SEQUENCES))
        if lost:
            if not foreign and not own and not has_function(node, self._version(node)):
                raise Unsupported(why(str(node.domain or ""), node.op))
            return [_Lost() for _ in node.outputs]
        operands = tuple(None if isinstance(v, Items) else v for v in given)
        if any(isinstance(v, Items) for v in given) and node.op not in SEQUENCES:
            if node.op == "Identity":
                return [v for v in given if isinstance(v, Items)]
            raise Unsupported("its operand is a sequence")
        if not foreign and not own:
            return self._expand(node, operands)
        site = Site(
            node.op, title(node), self.opset, _attributes(node), operands,
            tuple(t.name for t in node.outputs), self.builder,
        )  # fmt: skip
        try:
            if foreign:
                known = node.domain == CONTRIB_DOMAIN and node.op in CONTRIB
                return CONTRIB[node.op](site) if known else self._opaque(node, site)
            if node.op in CONTROL:
                return self._control(node, site, env)
            if node.op in SEQUENCES:
                return [SEQUENCES[node.op](site, given)]
            try:
                return RULES[node.op](site)
            except Unsupported as reason:
                return self._expand(node, operands, str(reason))
        except (VerifyError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise FrontendError(f"{site.where}: {error}") from error

    def _expand(
        self, node: gs.Node, operands: tuple[Value | None, ...], reason: str = ""
    ) -> Sequence[Result]:
        """The results of a node whose operator ONNX defines by others."""
        version = self._version(node)
        body = function_of(node, version, operands)
        if body is None:
            if reason or self._is_defined(node):
                raise Unsupported(reason or why(str(node.domain or ""), node.op))
            raise Unsupported(f"no such op; {nearest(node.op, RULES)}")
        inner: Env = {
            formal(node, name): value
            for name, value in zip(body.input, operands, strict=False)
            if value is not None
        }
        outer = self.versions
        self.versions = outer | {o.domain: o.version for o in body.opset_import}
        try:
            self._nodes(instance(node, body, version), inner)
        finally:
            self.versions = outer
        wanted = zip(body.output, (t.name for t in node.outputs), strict=False)
        return [inner[formal(node, name)] if out else _Lost() for name, out in wanted]

    @property
    def opset(self) -> int:
        """The version of the standard operators that count now."""
        return next(self.versions[d] for d in STANDARD if d in self.versions)

    def _version(self, node: gs.Node) -> int:
        domain = str(node.domain or "")
        return self.opset if domain in STANDARD else self.versions.get(domain, 0)

    def _is_defined(self, node: gs.Node) -> bool:
        """Whether ONNX itself knows the operator."""
        return bool(onnx.defs.has(node.op, self._version(node), str(node.domain or "")))

    def _control(self, node: gs.Node, site: Site, env: Env) -> Sequence[Result]:
        """The results of a node that holds graphs; a constant condition's branch is taken."""
        if node.op == "If" and (known := self.builder.static(site.input(0))) is not None:
            branch = node.attrs.get("then_branch" if bool(known.reshape(())) else "else_branch")
            if not isinstance(branch, gs.Graph):
                raise site.error("the branch that its condition takes is missing")
            inner = dict(env)
            return self._body(branch, inner)
        graphs = {k: g for k, g in node.attrs.items() if isinstance(g, gs.Graph)}
        names = dict.fromkeys(name for g in graphs.values() for name in captured(g))
        outer = {name: env[name] for name in names}
        if any(isinstance(v, _Lost) for v in outer.values()):
            return [_Lost() for _ in node.outputs]
        if any(isinstance(v, Items) for v in outer.values()):
            raise Unsupported("it reads a sequence")
        values = {name: v for name, v in outer.items() if isinstance(v, Value)}
        known_ = {name: v for name, v in values.items() if self._is_known(v)}
        passed = {name: v for name, v in values.items() if name not in known_}

        def build(source: gs.Graph, types: Sequence[TensorType], name: str) -> Graph:
            importer = _Importer(self.proto, {}, Graph(name), self.unsupported)
            return importer.inner(self, source, types, passed, known_)

        return CONTROL[node.op](site, Enclosed(graphs, tuple(passed.values()), build))

    def _is_known(self, value: Value) -> bool:
        """Whether an inner graph shall hold ``value`` itself: constants and known shapes."""
        return value.is_constant or (
            not value.type.is_float and self.builder.static(value) is not None
        )

    def inner(
        self,
        outer: "_Importer",
        source: gs.Graph,
        types: Sequence[TensorType],
        passed: Mapping[str, Value],
        known: Mapping[str, Value],
    ) -> Graph:
        """The graph of a node's attribute: inputs of ``types``, then what it takes from outside."""
        self.versions, self.builder = outer.versions, Builder(self.graph)
        env: Env = {}
        for tensor, t in zip(source.inputs, types, strict=True):
            env[tensor.name] = self.graph.input(tensor.name, t)
        for name, value in passed.items():
            env[name] = self.graph.input(self.graph.fresh(name), value.type)
        for name, value in known.items():
            array = outer.builder.static(value)
            assert array is not None
            env[name] = self.builder.constant(array, name)
        outputs: list[Value] = []
        for found in self._body(source, env):
            if isinstance(found, _Lost):
                raise Unsupported("it holds nodes that are not supported")
            if isinstance(found, Items):
                raise Unsupported("it gives a sequence")
            fixed = found.producer is None or any(found is v for v in outputs)
            outputs.append(self.graph.add(Identity(), [found]).output if fixed else found)
        self.graph.outputs = outputs
        self.graph.prune()
        return self.graph

    def _body(self, source: gs.Graph, env: Env) -> list[Result]:
        """The outputs of an inner graph, imported into ours."""
        self._nodes(source, env)
        for tensor in source.outputs:
            if isinstance(tensor, gs.Constant) and tensor.name not in env:
                env[tensor.name] = self._constant(tensor)
        return [env[t.name] for t in source.outputs]

    def _opaque(self, node: gs.Node, site: Site) -> list[Value]:
        """A node of a foreign domain; the file must say the types of its results."""
        types = []
        for tensor in node.outputs:
            if tensor.dtype is None or tensor.shape is None:
                raise Unsupported("the file does not say the types of its results")
            types.append(input_type(tensor, None, {}))
        settings = tuple(sorted((k, _frozen(v)) for k, v in site.attributes.items()))
        return site.results(Opaque(node.op, str(node.domain), settings, tuple(types)), *site.inputs)

    # -- outputs -----------------------------------------------------------------------------

    def _outputs(self, source: gs.Graph, env: Env) -> None:
        """Declare the outputs under their own names and element types."""
        values: list[Value] = []
        for tensor in source.outputs:
            if isinstance(tensor, gs.Constant) and tensor.name not in env:
                env[tensor.name] = self._constant(tensor)
            value = env.get(tensor.name)
            if isinstance(value, Items):
                raise FrontendError(f"output {tensor.name!r} is a sequence; only tensors can be")
            if not isinstance(value, Value):
                raise FrontendError(f"output {tensor.name!r} is not defined by any node")
            dtype = None if tensor.dtype is None else dtype_name(tensor.dtype)
            values.append(output(self.builder, value, tensor.name, dtype, values))
        if len({t.name for t in source.outputs}) < len(values):
            raise FrontendError("two outputs have the same name")
        self.graph.outputs = values


def _attributes(node: gs.Node) -> dict[str, object]:
    return {
        k: np.asarray(v.values) if isinstance(v, gs.Constant) else v
        for k, v in node.attrs.items()
        if not isinstance(v, gs.Graph)
    }


def _frozen(value: object) -> object:
    if isinstance(value, np.ndarray):
        return tuple(value.ravel().tolist())
    return tuple(value) if isinstance(value, list) else value
