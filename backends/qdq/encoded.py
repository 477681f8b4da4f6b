"""Number formats in standard ONNX: reals in, the reals that their codes stand for out.

Weights in groups of integers are DequantizeLinear's own.  No runtime has the packed bytes of the
others, so an ``Encode`` writes nothing, and the ``Decode`` behind it what
both together do.  Powers of two come from a table, found by a logarithm and put right by a
comparison: no rounding of a logarithm can move a scale.  What is not finite is not promised.
"""

from dataclasses import dataclass

import numpy as np

from ...ir.errors import BackendError
from ...ir.formats import Bfp, Format, Logarithmic, Mx, Scaled, ScaledFloat, ScaledInt, parse
from ...ir.formats.base import signed
from ...ir.formats.mx import FLOATS, INT8
from ...ir.formats.scaled import GREATEST, LEAST, factors
from ...ir.graph import Graph, Node
from ...ir.ops.encoding import Decode, Encode, in_parts
from ...ir.types import Array
from .emitter import Attribute, Emitter, element_code, operands

_LOWEST, _HIGHEST = -149, 127
_BFLOAT16, _FLOAT, _INT64 = (element_code(t) for t in ("bfloat16", "float32", "int64"))


def encode(node: Node, emitter: Emitter) -> None:
    """Nothing: the bytes have no form of their own."""


def decode(node: Node, emitter: Emitter) -> None:
    """What is left of the reals; ``BackendError`` for bytes that come from elsewhere."""
    op, maker = node.op, node.operands[0].producer
    assert isinstance(op, Decode)
    if is_blocked(node):
        _blocked(node, emitter)
        return
    if maker is None or not isinstance(maker.op, Encode):
        raise BackendError(f"{node.name!r}: packed bytes of {op.format} have no standard ONNX form")
    x, shape, base = operands(maker)[0], node.output.shape, node.output.name
    axis = op.axis % len(shape)
    f = parse(op.format)
    write = _Writer(emitter, base, axis + 1)
    padding = f.padding(op.length)
    if padding:
        pads = [0] * (2 * len(shape))
        pads[len(shape) + axis] = padding
        x = write.step("Pad", x, emitter.ints(pads, base))
    cut = (*shape[:axis], f.blocks(op.length), f.size(op.length), *shape[axis + 1 :])
    y = write.rounded(f, write.step("Reshape", x, emitter.ints(cut, base)))
    whole = (*shape[:axis], op.length + padding, *shape[axis + 1 :])
    y = write.step("Reshape", y, emitter.ints(whole, base))
    if padding:
        bounds = [emitter.ints([i], base) for i in (0, op.length, axis)]
        y = write.step("Slice", y, *bounds)
    emitter.node("Cast", [y], [base], {"to": element_code(op.dtype)}, name=node.name)


def is_blocked(node: Node) -> bool:
    """Whether standard ONNX has the packed constant that a node decodes: integers in groups."""
    op = node.op
    if not isinstance(op, Decode) or not node.operands[0].is_constant:
        return False
    f = parse(op.format)
    return isinstance(f, ScaledInt) and f.block > 0 and op.dtype == "float32"


def _blocked(node: Node, emitter: Emitter) -> None:
    """DequantizeLinear of int4 (or int8) with a scale per group: the same product in float32."""
    op, data, base = node.op, node.operands[0].data, node.output.name
    assert isinstance(op, Decode)
    assert data is not None
    f = parse(op.format)
    assert isinstance(f, ScaledInt)
    axis = op.axis % data.ndim

    def whole(part: Array) -> Array:
        codes = signed(f.unpack(np.moveaxis(part, axis, -1), op.length).codes, f.width)
        codes = codes.reshape(*codes.shape[:-2], -1)[..., : op.length]
        return np.moveaxis(codes, -1, axis)

    def shared(part: Array) -> Array:
        scales = factors(f.unpack(np.moveaxis(part, axis, -1), op.length).scales)
        return np.moveaxis(scales, -1, axis)

    codes = in_parts(whole, data, axis, op.length, "int8")
    scales = in_parts(shared, data, axis, f.blocks(op.length), "float32")
    kept = emitter.nibbles(codes, base) if f.width <= 4 else emitter.constant(codes, base)
    inputs = [kept, emitter.constant(scales, base)]
    sizes: dict[str, Attribute] = {"axis": axis, "block_size": f.block}
    emitter.node("DequantizeLinear", inputs, [base], sizes, name=node.name)


def packed_bytes(graph: Graph) -> int:
    """Bytes of the packed constants that standard ONNX has."""
    return sum(n.operands[0].type.size for n in graph.nodes if is_blocked(n))


@dataclass(frozen=True)
class _Writer:
    """Steps that compute with the blocks of one value, whose elements lie along ``axis``."""

    emitter: Emitter
    base: str
    axis: int

    def step(self, kind: str, *ins: str) -> str:
        return self.emitter.step(kind, ins, self.base)

    def number(self, value: float | Array) -> str:
        return self.emitter.constant(np.asarray(value, np.float32), self.base)

    def cast(self, x: str, to: int) -> str:
        return self.emitter.step("Cast", [x], self.base, {"to": to})

    def rounded(self, f: Format, x: str) -> str:
        """What is left of blocks."""
        axes = self.emitter.ints([self.axis], self.base)
        greatest = self.step("ReduceMax", self.step("Abs", x), axes)
        scale = self._scale(f, greatest)
        v = self.step("Div", x, scale)
        if isinstance(f, Logarithmic):
            return self.step("Mul", self._logarithmic(f, v), scale)
        if isinstance(f, Bfp):
            v = self._whole(v, (1 << (f.m - 1)) - 1)
        elif isinstance(f, ScaledInt):
            v = self._whole(v, f.top)
        elif isinstance(f, ScaledFloat):
            v = self._float(v, f.mantissa, f.element.least, f.top)
        elif isinstance(f, Mx) and f.element == INT8:
            v = self.step("Div", self._whole(self.step("Mul", v, self.number(64)), 127),
                          self.number(64))  # fmt: skip
        else:
            assert isinstance(f, Mx)
            v = self._float(v, *_mx_float(f))
        return self.step("Mul", v, scale)

    def _scale(self, f: Format, greatest: str) -> str:
        """What the elements of a block are multiples of."""
        if isinstance(f, Scaled):
            factor = self.step("Div", greatest, self.number(f.top))
            factor = self.step("Clip", factor, self.number(LEAST), self.number(GREATEST))
            return self.cast(self.cast(factor, _BFLOAT16), _FLOAT)
        if isinstance(f, Bfp):
            shift, bias = f.m - 2, (1 << (f.e - 1)) - 1
            low, high = -bias, f.undefined - 1 - bias
        else:
            assert isinstance(f, Mx)
            shift, low, high = f.emax, -127 + f.emax, 127 + f.emax
        return self._power(greatest, shift, low, high)

    def _power(self, x: str, shift: int, low: int, high: int) -> str:
        """``2**(clip(floor(log2(x)), low, high) - shift)`` of numbers that are not negative."""
        exponents = np.arange(_LOWEST, _HIGHEST + 1)
        log = self.step("Div", self.step("Log", x), self.number(np.log(2)))
        log = self.step("Clip", self.step("Floor", log), self.number(_LOWEST + 1),
                        self.number(_HIGHEST - 1))  # fmt: skip
        near = self.cast(self.step("Sub", log, self.number(_LOWEST)), _INT64)
        powers = self.number(np.ldexp(np.float32(1), exponents))
        one = self.emitter.constant(np.asarray(1, np.int64), self.base)
        for change, compare, other in (("Sub", "Greater", 0), ("Add", "LessOrEqual", 1)):
            # One too many; then one too few.
            moved = self.step("Add", near, one) if other else near
            wrong = self.step(compare, self.step("Gather", powers, moved), x)
            near = self.step("Where", wrong, self.step(change, near, one), near)
        with np.errstate(over="ignore"):
            scales = np.ldexp(np.float32(1), np.clip(exponents, low, high) - shift)
        return self.step("Gather", self.number(scales), near)

    def _whole(self, v: str, top: float) -> str:
        steps = self.step("Round", v)
        return self.step("Clip", steps, self.number(-top), self.number(top))

    def _float(self, v: str, mantissa: int, least: int, top: float) -> str:
        """Nearest floats of a few bits; they saturate."""
        v = self.step("Clip", v, self.number(-top), self.number(top))
        unit = self._power(self.step("Abs", v), mantissa, least, _HIGHEST)
        return self.step("Mul", self.step("Round", self.step("Div", v, unit)), unit)

    def _logarithmic(self, f: Logarithmic, v: str) -> str:
        """Powers of the base; the logarithm may round otherwise at the very middle of two."""
        log = self.step("Div", self.step("Log", self.step("Relu", v)), self.number(np.log(2)))
        top = (1 << f.width) - 1
        q = self.step("Round", self.step("Mul", log, self.number(-f.steps)))
        q = self.step("Clip", q, self.number(0), self.number(top))
        codes = np.arange(top + 1, dtype=np.uint8)
        one = np.ones(1, "bfloat16").view(np.uint16)
        table = self.number(f.values(codes, one))
        return self.step("Gather", table, self.cast(q, _INT64))


def _mx_float(f: Mx) -> tuple[int, int, float]:
    """Bits of the mantissa, exponent of the least normal element, greatest element."""
    import ml_dtypes

    info = ml_dtypes.finfo(FLOATS[f.element][0])  # type: ignore[no-untyped-call]
    return int(info.nmant), int(info.minexp), float(info.max)
