"""ONNX to :class:`Graph`: opsets 7 to the newest, float32 and float16.

Shape arithmetic and constant ``If`` are folded, ``Identity`` and ``Dropout`` vanish, half precision
is computed in float32 (the graph's inputs and outputs keep their types).  Values keep their ONNX
names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..ir.builder import Builder
from ..ir.errors import FrontendError, VerifyError, nearest
from ..ir.graph import Graph, Value
from ..ir.ops import Cast, Opaque
from ..ir.types import Dim, TensorType
from .onnx_file import STANDARD, decode, opset, ordered, read, title
from .onnx_inputs import input_type
from .onnx_rules import RULES
from .onnx_rules.shapes import half_to_single
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
    where = "" if isinstance(model, onnx.ModelProto) else f"{model}: "
    proto = model if isinstance(model, onnx.ModelProto) else read(Path(model))
    try:
        return _Importer(proto, input_shapes or {}).run()
    except FrontendError as error:
        if str(error).startswith(where):
            raise
        raise FrontendError(f"{where}{error}") from error


@dataclass
class _Lost:
    """The result of a node that could not be imported."""


Env = dict[str, Value | _Lost]


@dataclass
class _Importer:
    proto: onnx.ModelProto
    input_shapes: Mapping[str, Sequence[int]]
    graph: Graph = field(default_factory=Graph)
    unsupported: dict[str, None] = field(default_factory=dict)

    def run(self) -> Graph:
        self.opset = opset(self.proto)
        source = decode(self.proto)
        self.graph.name = source.name or "graph"
        self.builder = Builder(self.graph)
        self.declared = {t.name: t for t in source.outputs}
        env: Env = {}
        self._inputs(source, env)
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

    def _inputs(self, source: gs.Graph, env: Env) -> None:
        """Declare the inputs; those that are initializers (IR < 4) are constants."""
        inputs = [t for t in source.inputs if not isinstance(t, gs.Constant)]
        for name in self.input_shapes:
            if name not in (t.name for t in inputs):
                raise FrontendError(f"no input {name!r}; {nearest(name, (t.name for t in inputs))}")
        symbols: dict[str, int] = {}
        types = [input_type(t, self.input_shapes.get(t.name), symbols) for t in inputs]
        for tensor, t in zip(inputs, types, strict=True):
            shape: tuple[Dim, ...] = tuple(symbols.get(str(d), d) for d in t.shape)
            value = self.graph.input(tensor.name, TensorType(t.dtype, shape))
            env[tensor.name] = value
            if t.dtype in HALF:
                cast = [f"{tensor.name}.float32"]
                env[tensor.name] = self.builder.emit(Cast("float32"), [value], cast)[0]

    def _constant(self, tensor: gs.Constant) -> Value:
        array = np.asarray(tensor.values)
        check_finite(tensor, array)
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
        self, node: gs.Node, operands: tuple[Value | None, ...], lost: bool, env: Env
    ) -> Sequence[Value | _Lost]:
        foreign = (node.domain or "") not in STANDARD
        if not foreign and node.op not in RULES and node.op != "If":
            known = onnx.defs.has(node.op, self.opset)
            raise Unsupported("" if known else f"no such op; {nearest(node.op, RULES)}")
        if lost:
            return [_Lost() for _ in node.outputs]
        site = Site(
            node.op, title(node), self.opset, _attributes(node), operands,
            tuple(t.name for t in node.outputs), self.builder,
        )  # fmt: skip
        try:
            if foreign:
                return self._opaque(node, site)
            if node.op == "If":
                return self._branch(node, site, env)
            return RULES[node.op](site)
        except (VerifyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise FrontendError(f"{site.where}: {error}") from error

    def _branch(self, node: gs.Node, site: Site, env: Env) -> Sequence[Value | _Lost]:
        """The results of the branch that a constant condition takes."""
        condition = self.builder.static(site.input(0))
        if condition is None:
            raise Unsupported("its condition is not constant")
        branch = node.attrs["then_branch" if bool(condition.reshape(())) else "else_branch"]
        inner = dict(env)
        self._nodes(branch, inner)
        for tensor in branch.outputs:
            if isinstance(tensor, gs.Constant) and tensor.name not in inner:
                inner[tensor.name] = self._constant(tensor)
        return [inner[t.name] for t in branch.outputs]

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
            if not isinstance(value, Value):
                raise FrontendError(f"output {tensor.name!r} is not defined by any node")
            dtype = None if tensor.dtype is None else _dtype_name(tensor)
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


def _dtype_name(tensor: gs.Tensor) -> str:
    if tensor.dtype == onnx.TensorProto.BFLOAT16:
        return "bfloat16"
    return str(np.dtype(tensor.dtype).name)
