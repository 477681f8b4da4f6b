"""Products of two matrices of codes that are both computed at run time, by dots of four codes.

As attention has them: queries by keys, probabilities by values.  The second operand of each matrix
of the batch is packed into panels: vectors that hold, for as many columns as there are lanes, four
codes of the depth.  A tile of accumulators goes along the depth as in ``kernels.register_tile``.

The sums are those of codes less 128 where vpdpbusd needs int8, and zero points are made good
afterwards: ``sum((a-za)*(b-zb)) = sum(a*c) + (m-zb)*sum(a) - za*sum(c) - depth*za*(m-zb)`` for
``c = b-m`` (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ...ir.ops import integer
from .kernels.isa import splat
from .kernels.x86 import X86
from .layout import Strided, round_up
from .loops import Expr, Frame, build, index_of, local, unravel
from .pointwise import i32
from .products import finish_of, full
from .program import Emitted

ROWS = 128
"""Rows of an iteration, which packs the other operand for itself."""

_LEAST = 8
_MOST_BYTES = 256 << 10
_QUAD = 4


@dataclass(frozen=True)
class Dots:
    """How four codes meet four codes in every 32-bit lane; ``signed``: the packed ones less 128."""

    lanes: int
    accumulators: int
    signed: bool

    @property
    def parts(self) -> int:
        """Vectors that a panel has for four codes: bytes, or even and odd ones as int16."""
        return 1 if self.signed else 2

    @property
    def middle(self) -> int:
        """What is taken off the packed codes."""
        return 128 if self.signed else 0

    def packed(self, quad: Expr, count: int) -> list[Expr]:
        """Four codes (``count`` of them are there) as the panel holds them, each as int32."""
        if self.signed:
            there = int.from_bytes(bytes([128] * count), "little")
            return [tirx.bitwise_xor(quad, i32(there - (there >> 31 << 32)))]
        return _pairs(quad, i32(0x00FF00FF), i32(8))

    def spread(self, quad: Expr) -> list[Expr]:
        """Four codes of a row in every lane, as they meet the parts of a panel."""
        vector = tirx.Broadcast(quad, self.lanes)
        if self.signed:
            return [tirx.reinterpret(f"int8x{4 * self.lanes}", vector)]
        mask, eight = (splat(v, "int32", self.lanes) for v in (0x00FF00FF, 8))
        return [tirx.reinterpret(f"int16x{2 * self.lanes}", v) for v in _pairs(vector, mask, eight)]

    def add(self, acc: Expr, row: Expr, panel: Expr) -> Expr:
        """One part of a step; ``panel`` as int32 lanes."""
        isa = X86(self.lanes)
        if self.signed:
            return isa.dot_bytes(acc, row, tirx.reinterpret(f"int8x{4 * self.lanes}", panel))
        return acc + isa.multiply_pairs(row, tirx.reinterpret(f"int16x{2 * self.lanes}", panel))


def _pairs(quad: Expr, mask: Expr, eight: Expr) -> list[Expr]:
    return [tirx.bitwise_and(v, mask) for v in (quad, tirx.shift_right(quad, eight))]


def dots_of(features: frozenset[str]) -> Dots | None:
    """The best that a cpu has."""
    if "avx512vnni" in features:
        return Dots(16, 28, signed=True)
    if "avxvnni" in features:
        return Dots(8, 12, signed=True)
    return Dots(8, 12, signed=False) if "avx2" in features else None


@dataclass(frozen=True)
class PanelProduct:
    """``QMatMul`` of two activations; operands a, b, bias, multiplier, residual?, table?."""

    op: integer.QMatMul
    ins: tuple[Strided, ...]
    out: Strided
    dots: Dots

    @property
    def label(self) -> str:
        """The op's name."""
        return "qmatmul"

    @property
    def depth(self) -> int:
        """Codes of a row of the first operand."""
        return self.ins[0].shape[-1]

    @property
    def steps(self) -> int:
        """Dots along the depth."""
        return -(-self.depth // _QUAD)

    @property
    def wide(self) -> int:
        """Vectors of a tile: those that leave the fewest columns empty, and of these the most."""
        vectors = -(-self.out.shape[-1] // self.dots.lanes)
        choice = range(min(vectors, 2), min(vectors, self.dots.accumulators // 4) + 1)
        return min(choice, key=lambda wide: (round_up(vectors, wide), -wide))

    @property
    def high(self) -> int:
        """Rows of a tile."""
        return min(self.dots.accumulators // self.wide, self.out.shape[-2])

    @property
    def vectors(self) -> int:
        """Vectors of all tiles beside each other."""
        return round_up(-(-self.out.shape[-1] // self.dots.lanes), self.wide)

    @property
    def room(self) -> int:
        """int32 elements of the panels."""
        return self.vectors * self.steps * self.dots.parts * self.dots.lanes

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR; an iteration is up to ``ROWS`` rows of one matrix of the batch."""
        return build(name, self.ins, (self.out,), self._body)

    def _body(self, frame: Frame) -> int:
        a, b = (full(x, self.out) for x in self.ins[:2])
        *lead, rows, _ = self.out.shape
        parts = -(-rows // ROWS)
        with I.serial(frame.lo, frame.hi) as iteration:
            *at, part = unravel(iteration, (*lead, parts))
            first, second = (I.bind(index_of(at, x.strides[:-2])) for x in (a, b))
            panels = _pack(self, frame, b, second)
            offsets = _offsets(self, panels)
            count = tirx.min(i32(rows) - part * ROWS, i32(ROWS))
            tall = tirx.truncdiv(count + (self.high - 1), i32(self.high))
            with I.serial(0, self.vectors // self.wide) as block, I.serial(0, tall) as i:
                row = I.bind(tirx.min(part * ROWS + i * self.high, i32(rows - self.high)))
                source = I.bind(first + row * a.strides[-2]), a.strides[-2]
                sums = _tile(self, frame, source, panels, offsets, block)
                _store(self, frame, source, sums, (at, row, block))
        return prod(lead) * parts


def panel_product(
    op: integer.QMatMul, ins: tuple[Strided, ...], out: Strided, features: frozenset[str]
) -> PanelProduct | None:
    """The kernel for a product of two activations, or None where loops do as well."""
    dots = dots_of(features)
    if dots is None or {ins[0].dtype, ins[1].dtype} != {"uint8"} or ins[0].strides[-1] != 1:
        return None
    kernel = PanelProduct(op, ins, out, dots)
    small = min(*out.shape[-2:], kernel.depth) < _LEAST
    return None if small or 4 * kernel.room > _MOST_BYTES else kernel


def _pack(p: PanelProduct, frame: Frame, b: Strided, base: Expr) -> Expr:
    """The panels ``[vectors, steps, parts, lanes]``; zeros where there are no columns."""
    dots, columns = p.dots, b.shape[-1]
    panels, lanes = local(p.room, "int32"), p.dots.lanes
    whole, rest = divmod(columns, lanes)
    stretch = p.steps * dots.parts * lanes
    if p.vectors > whole:
        with I.serial(0, (p.vectors - whole) * stretch) as i:
            I.buffer_store(panels, i32(0), [whole * stretch + i])

    def fill(vector: Expr, count: int) -> None:
        def step(k: Expr, codes: int) -> None:
            with I.serial(0, count) as lane:
                index = base + (vector * lanes + lane) * b.strides[-1] + k * _QUAD * b.strides[-2]
                quad = _quad(frame, 1, index, b.strides[-2], codes)
                for part, value in enumerate(dots.packed(quad, codes)):
                    to = vector * stretch + (k * dots.parts + part) * lanes + lane
                    I.buffer_store(panels, value, [to])

        _along(p.depth, step)

    if whole:
        with I.serial(0, whole) as vector:
            fill(vector, lanes)
    if rest:
        fill(i32(whole), rest)
    return panels


def _along(depth: int, step: Callable[[Expr, int], None]) -> None:
    """Emit ``step(k, codes)`` for all dots along the depth; the last one may have fewer codes."""
    with I.serial(0, depth // _QUAD) as k:
        step(k, _QUAD)
    if depth % _QUAD:
        step(i32(depth // _QUAD), depth % _QUAD)


def _quad(frame: Frame, operand: int, index: Expr, stride: int, count: int) -> Expr:
    """``count`` codes as an int32, the first one lowest."""
    if stride == 1 and count == _QUAD:
        codes = tirx.BufferLoad(frame.ins[operand], [tirx.Ramp(index, i32(1), _QUAD)])
        return tirx.reinterpret("int32", codes)
    total: Expr = i32(0)
    for i in range(count):
        code = tirx.Cast("int32", frame.load(operand, index + i * stride))
        total = tirx.bitwise_or(total, tirx.shift_left(code, i32(8 * i)))
    return total


def _offsets(p: PanelProduct, panels: Expr) -> Expr:
    """What every column's sum starts at: ``-za * sum(c) - depth * za * (m - zb)``."""
    lanes, zero = p.dots.lanes, p.op.a_zero_point
    offsets = local(p.vectors * lanes, "int32")
    constant = -p.depth * zero * (p.dots.middle - p.op.b_zero_point)
    ones = [I.bind(row) for row in p.dots.spread(i32(0x01010101))]
    sums = local(1, f"int32x{lanes}")
    with I.serial(0, p.vectors) as vector:
        I.buffer_store(sums, splat(0, "int32", lanes), [0])
        if zero:
            with I.serial(0, p.steps) as k:
                for part, one in enumerate(ones):
                    panel = _vector(p, panels, vector, k, part)
                    I.buffer_store(sums, p.dots.add(sums[0], one, panel), [0])
        value = splat(constant, "int32", lanes) - sums[0] * splat(zero, "int32", lanes)
        I.buffer_store(offsets, value, [tirx.Ramp(vector * lanes, i32(1), lanes)])
    return offsets


def _vector(p: PanelProduct, panels: Expr, vector: Expr, k: Expr, part: int) -> Expr:
    lanes = p.dots.lanes
    at = (vector * p.steps + k) * (p.dots.parts * lanes) + part * lanes
    return panels.vload([at], f"int32x{lanes}")


def _tile(
    p: PanelProduct,
    frame: Frame,
    source: tuple[Expr, int],
    panels: Expr,
    offsets: Expr,
    block: Expr,
) -> Expr:
    """The sums ``[high, wide * lanes]``; ``source``: where the first row starts, their stride."""
    start, stride = source
    lanes, tile = p.dots.lanes, [(i, j) for i in range(p.high) for j in range(p.wide)]
    acc = local(len(tile), f"int32x{lanes}")
    for i, j in tile:
        first = offsets.vload([(block * p.wide + j) * lanes], f"int32x{lanes}")
        I.buffer_store(acc, first, [i * p.wide + j])

    def step(k: Expr, codes: int) -> None:
        panel = [
            [
                I.bind(_vector(p, panels, block * p.wide + j, k, part))
                for part in range(p.dots.parts)
            ]
            for j in range(p.wide)
        ]
        for i in range(p.high):
            quad = I.bind(_quad(frame, 0, start + i * stride + k * _QUAD, 1, codes))
            for part, row in enumerate(map(I.bind, p.dots.spread(quad))):
                for j in range(p.wide):
                    at = i * p.wide + j
                    I.buffer_store(acc, p.dots.add(acc[at], row, panel[j][part]), [at])

    _along(p.depth, step)
    sums = local(len(tile) * lanes, "int32")
    for i, j in tile:
        at = i * p.wide + j
        I.buffer_store(sums, acc[at], [tirx.Ramp(i32(at * lanes), i32(1), lanes)])
    return sums


def _store(
    p: PanelProduct, frame: Frame, source: tuple[Expr, int], sums: Expr,
    place: tuple[list[Expr], Expr, Expr],
) -> None:  # fmt: skip
    """The epilogue of a tile: ``(m - zb) * sum(a)`` for each row, then what the op says."""
    (start, stride), (lead, first, block) = source, place
    finish, width, out = finish_of(p.op, frame, p.ins, p.out), p.wide * p.dots.lanes, p.out
    factor = p.dots.middle - p.op.b_zero_point
    with I.serial(0, p.high) as i:
        row, more = I.bind(first + i), local(1, "int32")
        I.buffer_store(more, i32(0), [0])
        if factor:
            with I.serial(0, p.depth) as k:
                code = tirx.Cast("int32", frame.load(0, start + i * stride + k))
                I.buffer_store(more, more[0] + code, [0])
        term = I.bind(more[0] * i32(factor))
        to = I.bind(index_of([*lead, row], out.strides[:-1]))
        with I.serial(0, tirx.min(i32(width), i32(out.shape[-1]) - block * width)) as c:
            column = block * width + c
            value = finish(sums[i * width + c] + term, column, [*lead, row, column])
            frame.store(value, to + column * out.strides[-1])
