"""Two matrices of codes that are both computed at run time, as kernels for a device see them.

The product is ``sum((a - az) * (b - bz))``.  Dot products take uint8 by int8, so codes of ``b``
lose 128 (an exclusive or).  What zero points add follows from the sums of rows of ``a`` and of
columns of ``b``; the same instructions make them with ones as the other operand, and only where the
other operand's zero point is not 0.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..kernels.cuda.device import aligned, at, do, i32, store
from ..layout import Strided
from ..loops import Expr, Frame, index_of, unravel
from ..products import Finish

ONES = 0x01010101
"""Four codes of one."""

Sums = tuple[Expr, Expr, Expr]
"""Of the codes in registers, of their row, and of their column."""

_SIGNS = -0x7F7F7F80
"""Four times the bit of 128."""


@dataclass(frozen=True)
class Matrices:
    """Operands and result with all leading axes; terms of a sum are contiguous in ``a``.

    In ``b`` they are, too, or (``beside``) its columns are.
    """

    a: Strided
    b: Strided
    out: Strided
    a_zero: int
    b_zero: int

    @property
    def fit(self) -> bool:
        """Whether kernels here can read them."""
        codes = self.a.dtype == self.b.dtype == "uint8"
        return codes and self.a.strides[-1] == 1 and 1 in self.b.strides[-2:]

    @property
    def beside(self) -> bool:
        """Whether it is columns of ``b`` that are contiguous."""
        return self.b.strides[-2] != 1

    @property
    def rows(self) -> int:
        """Of the result."""
        return self.out.shape[-2]

    @property
    def columns(self) -> int:
        """Of the result."""
        return self.out.shape[-1]

    @property
    def depth(self) -> int:
        """Terms of a sum."""
        return self.a.shape[-1]

    @property
    def count(self) -> int:
        """Products."""
        return prod(self.out.shape[:-2])

    @property
    def sums_rows(self) -> bool:
        """Whether the sums of rows of ``a`` matter."""
        return self.b_zero != 128

    @property
    def sums_columns(self) -> bool:
        """Whether the sums of columns of ``b`` matter."""
        return self.a_zero != 0

    def total(self, acc: Expr, row: Expr, column: Expr) -> Expr:
        """The sum that is meant, from ``Sums``."""
        shifted = self.b_zero - 128
        if self.sums_rows:
            acc = acc - row * i32(shifted)
        if self.sums_columns:
            acc = acc - column * i32(self.a_zero)
        return I.bind(acc + i32(self.depth * self.a_zero * shifted))

    def inside(self, row: Expr, column: Expr, tile: tuple[int, int]) -> AbstractContextManager[Any]:
        """Emit a condition: that there is such an element, where tiles reach over the edge."""
        bounds = []
        if self.rows % tile[0]:
            bounds.append(row < self.rows)
        if self.columns % tile[1]:
            bounds.append(column < self.columns)
        if not bounds:
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(I.If(tirx.all(*bounds) if len(bounds) > 1 else bounds[0]))
        stack.enter_context(I.Then())
        return stack

    def point(self, number: Expr) -> list[Expr]:
        """The leading coordinates of a product."""
        return [I.bind(i) for i in unravel(number, self.out.shape[:-2])] if self.count > 1 else [
            i32(0) for _ in self.out.shape[:-2]
        ]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """Emits loads of words of one product, whose matrices begin at the indices ``a`` and ``b``."""

    matrices: Matrices
    frame: Frame
    a: Expr
    b: Expr

    @staticmethod
    def of(matrices: Matrices, frame: Frame, point: Sequence[Expr]) -> "Reader":
        """For the product at the leading coordinates ``point``."""
        a, b = (I.bind(index_of(point, x.strides[:-2])) for x in (matrices.a, matrices.b))
        return Reader(matrices, frame, a, b)

    def row(self, number: Expr) -> Expr:
        """Where a row of ``a`` begins; beyond the last one it is that."""
        last = i32(self.matrices.rows - 1)
        return I.bind(self.a + tirx.min(number, last) * self.matrices.a.strides[-2])

    def column(self, number: Expr) -> Expr:
        """Where a column of ``b`` begins (or four of them); beyond the last it is that."""
        last = self.matrices.columns - 1
        last = last // 4 * 4 if self.matrices.beside else last
        return I.bind(self.b + tirx.min(number, i32(last)) * self.matrices.b.strides[-1])

    def left(self, to: Expr, places: Sequence[int], begin: Expr, term: Expr, together: int) -> None:
        """Emit the load of adjacent words of a row of ``a``; terms beyond the last are zeros.

        ``places``: where in the local array ``to``; ``together``: how many terms a step of the
        reduction takes, those of other threads too.
        """
        self._load(to, places, 0, begin + term)
        if self.matrices.depth % together:
            for i, place in enumerate(places):
                store(to, self.kept(to[place], term + 4 * i), place)

    def kept(self, word: Expr, term: Expr) -> Expr:
        """What of a word from a term on is terms of the sum."""
        return tirx.call_pure_extern("int32", "qc_keep", word, i32(self.matrices.depth) - term)

    def below(self, to: Expr, places: Sequence[int], begin: Expr, term: Expr) -> None:
        """Emit the load of adjacent words of a column of ``b``, as int8."""
        self._load(to, places, 1, begin + term)
        _lower(to, places)

    def beside(self, to: Expr, first: int, begin: Expr, term: Expr) -> None:
        """Emit the load of four terms of four columns of ``b``, as int8: a word for each column."""
        last, step = i32(self.matrices.depth - 1), self.matrices.b.strides[-2]
        for i in range(4):
            self._load(to, [first + i], 1, begin + tirx.min(term + i, last) * step)
        do("qc_transpose", at(to, first))
        _lower(to, range(first, first + 4))

    def _load(self, to: Expr, places: Sequence[int], operand: int, index: Expr) -> None:
        view = (self.matrices.a, self.matrices.b)[operand]
        axis = -2 if operand and not self.matrices.beside else -1
        size = 4 * len(places)
        load = aligned(f"qc_load{size}", _apart(view, axis, size), f"x{operand}")
        do(load, *(at(to, place) for place in places), at(self.frame.ins[operand], index))


@dataclass(frozen=True)
class Writer:
    """Emits results of the product at the leading coordinates ``point``, by tiles of a shape.

    ``base``: where its first result lies.
    """

    matrices: Matrices
    frame: Frame
    finish: Finish
    tile: tuple[int, int]
    point: Sequence[Expr]
    base: Expr

    @staticmethod
    def of(
        matrices: Matrices, frame: Frame, finish: Finish, tile: tuple[int, int],
        point: Sequence[Expr],
    ) -> "Writer":  # fmt: skip
        """For the product at ``point``."""
        base = I.bind(index_of(point, matrices.out.strides[:-2]))
        return Writer(matrices, frame, finish, tile, point, base)

    def __call__(self, row: Expr, column: Expr, sums: Sequence[Sums]) -> None:
        """Emit the results of adjacent columns, codes in one store where all of them are there."""
        m, strides, count = self.matrices, self.matrices.out.strides, len(sums)
        if m.out.dtype == "uint8" and strides[-1] == 1 and m.columns % count == 0:
            with m.inside(row, column, self.tile):
                every = [self._value(row, column + i, s) for i, s in enumerate(sums)]
                words = [tirx.Cast("int32", v) for v in every]
                name = aligned(f"qc_store{count}", _apart(m.out, -1, count), "y0")
                do(name, at(self.frame.outs[0], self._place(row, column)), *words)
            return
        for i, own in enumerate(sums):
            right = I.bind(column + i)
            with m.inside(row, right, self.tile):
                self.frame.store(self._value(row, right, own), self._place(row, right))

    def _value(self, row: Expr, column: Expr, sums: Sums) -> Expr:
        total = self.matrices.total(*sums)
        return I.bind(self.finish(total, column, [*self.point, row, column]))

    def _place(self, row: Expr, column: Expr) -> Expr:
        down, right = self.matrices.out.strides[-2:]
        return self.base + row * down + column * right


def _apart(view: Strided, axis: int, size: int) -> int:
    """What all that lies apart in a view, but along ``axis``, is a multiple of, up to ``size``."""
    axes = [*zip(view.strides, view.shape, strict=True)]
    del axes[axis]
    return gcd(size, *(stride for stride, count in axes if count > 1))


def _lower(words: Expr, places: Sequence[int]) -> None:
    """Four codes less 128 each."""
    for place in places:
        store(words, tirx.bitwise_xor(words[place], i32(_SIGNS)), place)
