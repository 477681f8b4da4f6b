"""An exported PyTorch program to :class:`Graph`, one ATen op after another.

The program is made functional by torch (no views, nothing in place); ops without a rule here are
taken apart by torch's decompositions.  Half precision is computed in float32 (float16 inputs and
outputs keep their type, bfloat16, which numpy does not know, becomes float32).  Inputs keep the
names of ``forward``'s arguments; constants the names of parameters and buffers, a tied weight its
first; nodes come from the path of their module.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.builder import Builder
from ..ir.errors import FrontendError, VerifyError
from ..ir.graph import Graph, Value
from ..ir.ops import Add, Cast, Div, Max, Min, Mod, Mul, Neg, Opaque, Sub
from ..ir.ops.base import Op
from ..ir.types import DTYPES, Dim, TensorType
from .onnx_site import Unsupported
from .outputs import output
from .torch_names import output_names, path_of, title_of
from .torch_program import decomposed
from .torch_rules import RULES
from .torch_site import Site, Size
from .torch_tensors import array_of, dtype_of, memory_of, single, type_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node as Call

_CHECKS = ("_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range",
           "sym_constrain_range_for_size")  # fmt: skip
_OWN = ("aten", "prims", "prim", "higher_order")

_SIZES: dict[str, type[Op]] = {
    "add": Add,
    "floordiv": Div,
    "mod": Mod,
    "mul": Mul,
    "neg": Neg,
    "sub": Sub,
    "sym_max": Max,
    "sym_min": Min,
}
"""Functions of sizes: those of ``operator`` and torch's own."""


def load(program: ExportedProgram) -> Graph:
    """Import a program.

    Raises ``FrontendError``, one line: all calls that are not supported, each with the path of its
    module.
    """
    return _Importer(decomposed(program, RULES)).run()


@dataclass
class _Lost:
    """The result of a call that could not be imported."""


@dataclass
class _Importer:
    program: ExportedProgram
    graph: Graph = field(default_factory=Graph)
    env: dict[Call, Any] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, None] = field(default_factory=dict)

    def run(self) -> Graph:
        self.builder = Builder(self.graph)
        calls = self.program.graph.nodes
        self.paths = Counter(path_of(c) for c in calls if hasattr(c.target, "_schema"))
        self.graph.name = title_of(calls)
        self._inputs([c for c in calls if c.op == "placeholder"])
        for call in calls:
            if call.op not in ("placeholder", "output"):
                self.env[call] = self._call(call)
        if self.unsupported:
            count, listed = len(self.unsupported), "; ".join(self.unsupported)
            raise FrontendError(
                f"{count} call{'s are' if count > 1 else ' is'} not supported: {listed}"
            )
        self._outputs()
        self.graph.prune()
        return self.graph

    # -- inputs ------------------------------------------------------------------------------

    def _inputs(self, places: Sequence[Call]) -> None:
        """Declare the inputs, then parameters and buffers; tied ones once."""
        specs = dict(zip(places, self.program.graph_signature.input_specs, strict=True))
        first: dict[tuple[object, ...], str] = {}
        for name, tensor in self.program.state_dict.items():
            first.setdefault(memory_of(tensor), name)
        known: dict[str, Value] = {}
        for place, spec in specs.items():
            if spec.kind.name == "USER_INPUT":
                self.env[place] = self._input(place, spec.arg)
        for place, spec in specs.items():
            if not place.users:
                continue
            if spec.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                self.env[place] = self._weight(str(spec.target), first, known)
            elif spec.kind.name != "USER_INPUT":
                raise FrontendError(f"input {place.name!r} is a {spec.kind.name.lower()}")

    def _input(self, place: Call, spec: object) -> object:
        found = place.meta.get("val")
        if type(spec).__name__ == "ConstantArgument":
            return getattr(spec, "value", None)
        if not hasattr(found, "dtype"):
            raise FrontendError(
                f"input {place.name!r} is a {type(found).__name__}, not a tensor; make it one, or "
                "fix it in a wrapper module"
            )
        dtype = dtype_of(found.dtype)
        if dtype not in DTYPES:
            raise FrontendError(f"input {place.name!r} has elements of type {dtype}")
        shape = tuple(self._dim(d, f"{place.name}.{i}") for i, d in enumerate(found.shape))
        if dtype != "float16":
            return self.graph.input(place.name, TensorType(single(dtype), shape))
        value = self.graph.input(place.name, TensorType(dtype, shape))
        return self.builder.emit(Cast("float32"), [value], [f"{place.name}.float32"])[0]

    def _dim(self, d: object, name: str) -> Dim:
        if isinstance(d, int):
            return d
        text = str(d)
        return int(text) if text.isdecimal() else self.symbols.setdefault(text, name)

    def _weight(
        self, target: str, first: Mapping[tuple[object, ...], str], known: dict[str, Value]
    ) -> Value:
        """A constant; tensors of the same memory are one, under the first name."""
        program = self.program
        tensor = program.state_dict.get(target)
        tensor = program.constants.get(target) if tensor is None else tensor
        if tensor is None or dtype_of(tensor.dtype) not in DTYPES:
            kind = "missing" if tensor is None else f"of type {dtype_of(tensor.dtype)}"
            raise FrontendError(f"parameter {target!r} is {kind}; it cannot be read")
        name = first.get(memory_of(tensor), target)
        if name not in known:
            known[name] = self.builder.constant(array_of(tensor), name)
        return known[name]

    # -- calls -------------------------------------------------------------------------------

    def _call(self, call: Call) -> object:
        """What ``call`` gives: a value, a size, or a list of values."""
        if call.target is operator.getitem:
            return self._item(call)
        if call.op == "get_attr":
            return _Lost()  # a graph within: what calls it is refused by name
        try:
            return self._convert(call)
        except Unsupported as reason:
            text = f" ({reason})" if str(reason) else ""
            self.unsupported[f"{self._name(call)!r} {call.target}{text}"] = None
            return _Lost()

    def _item(self, call: Call) -> object:
        whole, index = call.args
        found = self.env[whole]
        if isinstance(found, _Lost):
            return found
        item = found[index]
        if item is None:
            text = f"{self._name(whole)!r} {whole.target} (result {index})"
            self.unsupported[text] = None
            return _Lost()
        return item

    def _convert(self, call: Call) -> object:
        if _is_check(call):
            return None
        if not hasattr(call.target, "_schema"):
            return self._function(call)
        namespace, _, name = str(call.target).partition(".")
        rule = RULES.get(name) if namespace == "aten" else None
        if rule is None and namespace in _OWN:
            raise Unsupported("")
        arguments = self._arguments(call)
        if arguments is None:
            return _Lost()
        results = _results(call.meta.get("val"))
        site = Site(
            str(call.target), self._name(call), arguments, self._names(call, len(results)),
            tuple(type_of(r) for r in results), self.builder,
        )  # fmt: skip
        try:
            found = self._opaque(site, namespace) if rule is None else rule(site)
        except (VerifyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise FrontendError(f"{site.where}: {error}") from error
        _check(site, found)
        if isinstance(call.meta["val"], list | tuple):
            return list(found)
        if site.types[0] is not None:
            return found[0]
        assert found[0] is not None
        return Size(found[0])

    def _arguments(self, call: Call) -> dict[str, object] | None:
        """The arguments by their names in the schema; None where one was lost."""
        given: dict[str, object] = {}
        schema = call.target._schema
        for i, argument in enumerate(schema.arguments):
            if i < len(call.args):
                given[argument.name] = call.args[i]
            elif argument.name in call.kwargs:
                given[argument.name] = call.kwargs[argument.name]
            else:
                given[argument.name] = (
                    argument.default_value if argument.has_default_value() else None
                )
        found = {name: self._argument(item) for name, item in given.items()}
        lost = any(
            isinstance(i, _Lost)
            for item in found.values()
            for i in (item if isinstance(item, list) else [item])
        )
        return None if lost else found

    def _argument(self, item: object) -> object:
        if isinstance(item, list | tuple):
            return [self._argument(i) for i in item]
        return self.env.get(item, item)

    def _function(self, call: Call) -> object:
        """Arithmetic on sizes, ``int64[1]``; nothing for what only a check reads."""
        name = getattr(call.target, "__name__", "")
        if name not in _SIZES:
            if all(map(_is_check, call.users)):
                return None
            raise Unsupported("")
        items = [self._argument(a) for a in call.args]
        if any(isinstance(i, _Lost) for i in items):
            return _Lost()
        if not all(isinstance(i, Size | int) for i in items):
            raise Unsupported("")
        operands = [
            i.value if isinstance(i, Size) else self.builder.constant(np.asarray([i], np.int64))
            for i in items
        ]
        return Size(self.builder.emit(_SIZES[name](), operands, [call.name])[0])

    def _opaque(self, site: Site, domain: str) -> list[Value]:
        """A custom op, kept without its meaning; its tensors are operands, the rest settings."""
        items = site.arguments.items()
        operands = [v for _, v in items if isinstance(v, Value)]
        if any(isinstance(i, Value | Size) for _, v in items if isinstance(v, list) for i in v):
            raise Unsupported("a custom op with lists of tensors or sizes that are not known")
        rest = tuple(
            (k, tuple(v) if isinstance(v, list) else v)
            for k, v in items
            if not isinstance(v, Value)
        )
        types = tuple(t for t in site.types if t is not None)
        kind = site.target.partition(".")[2]
        return site.results(Opaque(kind, domain, rest, types), *operands)

    # -- names -------------------------------------------------------------------------------

    def _name(self, call: Call) -> str:
        """The path of the module, if the call is all that it does; else with the call's name."""
        path = path_of(call)
        if path and self.paths[path] == 1:
            return path
        return f"{path}.{call.name}" if path else call.name

    def _names(self, call: Call, count: int) -> tuple[str, ...]:
        if not isinstance(call.meta.get("val"), list | tuple):
            return (call.name,)
        return tuple(f"{call.name}.{i}" for i in range(count))

    # -- outputs -----------------------------------------------------------------------------

    def _outputs(self) -> None:
        specs = self.program.graph_signature.output_specs
        (last,) = (c for c in self.program.graph.nodes if c.op == "output")
        names = iter(output_names(self.program))
        values: list[Value] = []
        for place, spec in zip(last.args[0], specs, strict=True):
            if spec.kind.name != "USER_OUTPUT":
                raise FrontendError(
                    f"forward changes {str(spec.target or place)!r} in place; "
                    "make it an input and an output of forward"
                )
            name = next(names)
            value = self.env.get(place) if type(spec.arg).__name__ == "TensorArgument" else None
            if value is None:
                continue  # None, or a number
            if name in self.graph and any(self.graph[name] is v for v in self.graph.inputs):
                name = self.graph.fresh(f"{name}_out")
            dtype = dtype_of(place.meta["val"].dtype)
            values.append(
                output(self.builder, value, name, "float16" if dtype == "float16" else None, values)
            )
        if not values:
            raise FrontendError("forward returns no tensor")
        self.graph.outputs = values


def _is_check(call: Call) -> bool:
    """Whether ``call`` only looks at sizes, and raises where they are not what was promised."""
    return str(call.target).partition(".")[2].partition(".")[0] in _CHECKS


def _results(found: object) -> list[object]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _check(site: Site, found: Sequence[Value | None]) -> None:
    """``FrontendError`` unless the results have the types that torch says."""
    for value, wanted in zip(found, site.types, strict=False):
        if value is None or wanted is None:
            continue
        pairs = zip(value.type.shape, wanted.shape, strict=False)
        differ = value.type.rank != wanted.rank or any(
            a != b for a, b in pairs if isinstance(a, int) and isinstance(b, int)
        )
        if differ or value.type.dtype != wanted.dtype:
            raise FrontendError(
                f"{site.where}: becomes {value.type}, torch says {wanted}; a bug of qc: please "
                "report it"
            )
