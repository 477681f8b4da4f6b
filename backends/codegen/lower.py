"""From an integer graph to a program: which kernel runs where.

The lowering goes through the nodes once.  Every value gets a :class:`Place`; ops that only rename
elements (reshape, transpose, slice) make new places of old memory, everything else a call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...ir.errors import BackendError
from ...ir.graph import Graph, Node, Value
from ...ir.ops.base import Op
from ...ir.ops.integer import QMatMul
from ...ir.ops.late import Late
from ...ir.stored import stored_bytes
from ...ir.types import Array, TensorType
from .accepted import check_node, check_value
from .arrange import Arrangement, Border, arrange
from .border import FillBorder
from .buffer import Buffer, Storage
from .constants import Constants
from .generic import Generic, supported
from .layout import LANES, Allocation, Halo, Strided, channels_last, round_up, rows
from .pointwise import Copy
from .program import Pointer, Program
from .template import Choose, by_estimate

Rule = Callable[["Lowering", Node], None]


@dataclass(frozen=True)
class Place:
    """Where a value's elements are: a buffer, the index of the first one, and the layout.

    ``border`` is set where the surrounding pixels hold a known code.
    """

    buffer: Buffer
    view: Strided
    offset: int = 0
    border: Border | None = None

    @property
    def pointer(self) -> Pointer:
        """Address of the first element."""
        return Pointer(self.buffer, self.offset * self.view.itemsize)

    def viewed(self, view: Strided, offset: int = 0) -> "Place":
        """Other elements of the same memory, ``offset`` further on."""
        return Place(self.buffer, view, self.offset + offset)


@dataclass
class Lowering:
    """The state of one lowering; rules use its methods."""

    graph: Graph
    features: frozenset[str]
    arrangement: Arrangement
    rules: Mapping[str, Rule]
    choose: Choose = by_estimate
    program: Program = field(default_factory=Program)
    places: dict[int, Place] = field(default_factory=dict)
    flattened: dict[int, Place] = field(default_factory=dict)
    fused: set[int] = field(default_factory=set)
    inner: bool = False
    where: str = ""

    @property
    def fine(self) -> bool:
        """Whether the machine has many threads, each for one element.

        There a launch costs more than memory: borders are filled once.
        """
        return "dp4a" in self.features

    def run(self) -> Program:
        """Lower everything and place all buffers."""
        self.check()
        self._declare()
        self.walk()
        self._deliver()
        self.program.weights = sum(
            stored_bytes(v.data) for v in self.graph.constants if v.data is not None and v.uses
        )
        self.program.place()
        return self.program

    def enclosed(self, graph: Graph, where: str) -> "Lowering":
        """The lowering of an inner graph into the same program; its inputs are yet to be placed."""
        return replace(
            self, graph=graph, arrangement=arrange(graph), places={}, flattened={}, fused=set(),
            inner=True, where=where,
        )  # fmt: skip

    def check(self) -> None:
        """``BackendError`` for shapes that are not known and types that kernels do not know."""
        for value in self.graph.inputs:
            check_value(value, f"input {value.name!r}")
        for node in self.graph.nodes:
            check_node(node)

    def walk(self) -> None:
        """Lower all nodes."""
        for node in self.graph.nodes:
            self.where = node.name
            self._node(node)

    # -- places ------------------------------------------------------------------------------

    def place(self, value: Value) -> Place:
        """Where ``value`` is; constants are put down when they are first asked for."""
        if id(value) not in self.places:
            if value.data is None:
                raise BackendError(f"{self.where!r}: %{value.name} was never computed")
            self.places[id(value)] = self.constant(value.data, value.name)
        return self.places[id(value)]

    def constant(self, array: Array, name: str = "constant") -> Place:
        """A dense constant."""
        array = np.ascontiguousarray(array)
        buffer = self.program.constants.add(name, array)
        dtype = memory_dtype(array.dtype.name)
        return Place(buffer, Strided.dense(dtype, tuple(array.shape)))

    def result(self, value: Value, lanes: int = 1) -> Place:
        """Fresh memory for ``value``, arranged as its readers want; remembered as its place.

        An output of the graph that no reader wants channels-last gets the caller's memory.
        """
        if (part := self.arrangement.part(value)) is not None:
            place = self._part(value, *part)
        elif self._goes_out(value, lanes):
            place = self.output(value)
        else:
            place = self.allocate(value, lanes)
        self.places[id(value)] = place
        return place

    def allocate(self, value: Value, lanes: int = 1) -> Place:
        """Fresh arena memory for ``value``; its border is filled here."""
        dtype, shape = memory_dtype(value.type.dtype), value.shape
        if not self.arrangement.is_image(value):
            words = self.fine and _is_summed_by_words(value)
            return self.fresh(rows(dtype, shape, LANES if words else lanes), value.name)
        border = self.arrangement.border(value)
        lanes = max(lanes, unit_of(dtype, shape[1]))
        image = channels_last(dtype, shape, lanes, border.halo if border else None)
        place = replace(self.fresh(image, value.name), border=border)
        self._fill(place)
        return place

    def fresh(self, allocation: Allocation, name: str) -> Place:
        """Arena memory of a given form."""
        size = allocation.elements * allocation.view.itemsize
        return Place(Buffer(name, size), allocation.view, allocation.offset)

    def _part(self, value: Value, node: Node, channel: int) -> Place:
        """The slice of a concatenation's result that ``value`` is written to."""
        if id(node.output) not in self.places:
            self.places[id(node.output)] = self.allocate(node.output)
        whole = self.places[id(node.output)]
        starts = (0, channel, *(0 for _ in value.shape[2:]))
        view, offset = whole.view.sliced(starts, value.shape)
        return replace(whole, view=view, offset=whole.offset + offset)

    def _fill(self, place: Place) -> None:
        if place.border is not None:
            halo = place.border.halo
            n = len(halo.before)
            strides = place.view.strides[2:]
            back = sum(b * s for b, s in zip(halo.before, strides, strict=True))
            kernel = FillBorder(place.view, halo, place.border.value, self.fine)
            start = replace(place, offset=place.offset - back)
            assert n == place.view.rank - 2
            self.program.call(kernel, (start.pointer,), self.where, once=self.fine)

    def _goes_out(self, value: Value, lanes: int) -> bool:
        dense = lanes == 1 or not value.shape or value.shape[-1] % lanes == 0
        wanted = lanes == 1 or not _spatial(value, self)
        bare = self.arrangement.border(value) is None
        return not self.inner and self.graph.is_output(value) and dense and wanted and bare

    def output(self, value: Value) -> Place:
        """The caller's memory for an output."""
        index = next(i for i, v in enumerate(self.graph.outputs) if v is value)
        buffer = self.program.outputs[index]
        return Place(buffer, Strided.dense(memory_dtype(value.type.dtype), value.shape))

    # -- calls -------------------------------------------------------------------------------

    def generic(self, op: Op, ins: list[Place], outs: list[Place]) -> None:
        """Call the generic kernel of ``op``."""
        views = (tuple(p.view for p in ins), tuple(p.view for p in outs))
        kernel = Generic(op, *views, self.fine, joined="avx2" in self.features)
        self.program.call(kernel, tuple(p.pointer for p in (*ins, *outs)), self.where)

    def copy(self, source: Place, target: Place) -> None:
        """Copy elements from layout to layout."""
        if source.view.size:
            self.generic(Copy(), [source], [target])

    def as_rows(self, place: Place, name: str = "rows") -> Place:
        """Dense row-major: the same place, or a copy."""
        if place.view.is_dense:
            return place
        out = self.fresh(rows(place.view.dtype, place.view.shape), name)
        self.copy(place, out)
        return out

    def as_image(
        self, place: Place, pads: tuple[int, ...] = (), value: int = 0, lanes: int = 1
    ) -> Place:
        """Channels-last with ``pads`` of code ``value`` around: the same place, or a copy.

        ``lanes``: the physical channels must be a multiple of this.
        """
        view, border = place.view, place.border
        ready = not any(pads) or (
            border is not None and border.value == value and border.halo.covers(pads)
        )
        wide = lanes == 1 or view.strides[-1] >= round_up(view.shape[1], lanes)
        if _channels_innermost(view) and wide and ready:
            return place
        halo = Halo().grown(pads) if any(pads) else None
        lanes = max(lanes, unit_of(view.dtype, view.shape[1]))
        image = channels_last(view.dtype, view.shape, lanes, halo)
        border = Border(halo, value) if halo else None
        out = replace(self.fresh(image, "image"), border=border)
        self._fill(out)
        self.copy(place, out)
        return out

    # -- the walk ----------------------------------------------------------------------------

    def _declare(self) -> None:
        for i, value in enumerate(self.graph.inputs):
            buffer = Buffer(value.name, _bytes(value.type), Storage.INPUT, i)
            self.program.inputs.append(buffer)
            view = Strided.dense(memory_dtype(value.type.dtype), value.shape)
            self.places[id(value)] = Place(buffer, view)
        for i, value in enumerate(self.graph.outputs):
            self.program.outputs.append(Buffer(value.name, _bytes(value.type), Storage.OUTPUT, i))

    def _node(self, node: Node) -> None:
        rule = self.rules.get(node.op.name)
        if id(node) in self.fused:
            return
        if rule is not None:
            rule(self, node)
        elif supported(node.op):
            ins = [self.place(v) for v in node.operands]
            self.generic(node.op, ins, [self.result(v) for v in node.outputs])
        else:
            why = "no kernel for it"
            if isinstance(node.op, Late):
                why = (
                    f"{node.op.op.name} whose {', '.join(node.op.names)} are known at run time only"
                )
            raise BackendError(f"node {node.name!r}: op {node.op.name} cannot be compiled ({why})")

    def _deliver(self) -> None:
        """Copy outputs that are not where the caller wants them."""
        self.where = "outputs"
        for i, value in enumerate(self.graph.outputs):
            place = self.place(value)
            if place.buffer is not self.program.outputs[i]:
                self.copy(place, replace(self.output(value), buffer=self.program.outputs[i]))


def lower(
    graph: Graph,
    features: frozenset[str],
    choose: Choose = by_estimate,
    keep_constants: bool = True,
    program: Program | None = None,
) -> Program:
    """The program of an integer graph with static shapes for a cpu with ``features``.

    ``choose`` says which kernel serves a workload; ``keep_constants``: see ``Constants``;
    ``program``: an empty one to fill, which shares kernels and constants with others.
    """
    from .rules import RULES

    program = program or Program(constants=Constants(keep_constants))
    return Lowering(graph, features, arrange(graph), RULES, choose, program).run()


def unit_of(dtype: str, channels: int) -> int:
    """What the channels of an image are padded to when no template writes it.

    Few channels stay dense: short runs of the next convolution then join to one long run.
    """
    return LANES if dtype == "uint8" and channels >= LANES else 1


def memory_dtype(dtype: str) -> str:
    """The element type in memory: booleans are bytes."""
    return "uint8" if dtype == "bool" else dtype


def _is_summed_by_words(value: Value) -> bool:
    """Whether a product of two activations sums over rows of ``value``, which a device reads by
    words: they are wider where rows begin at multiples of these.
    """
    return any(
        isinstance(node.op, QMatMul) and node.operands[0] is value
        and not node.operands[1].is_constant
        for node in value.uses
    )  # fmt: skip


def _spatial(value: Value, lowering: Lowering) -> bool:
    """Whether a template that writes channels-last must not write ``value`` row-major."""
    return lowering.arrangement.is_image(value) and any(d != 1 for d in value.shape[2:])


def _channels_innermost(view: Strided) -> bool:
    return view.shape[1] == 1 or view.strides[1] == 1


def _bytes(t: TensorType) -> int:
    return t.size * t.itemsize
