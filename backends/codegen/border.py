"""Fills the border around an image with the code of zero."""

from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .layout import Halo, Strided
from .loops import Expr, Frame, build, grid, index_of, unravel
from .program import Emitted


@dataclass(frozen=True)
class FillBorder:
    """Writes ``value`` to the pixels of ``halo``; the pointer is at the border's first pixel.

    All channels that lie between this pixel and the next are written only if they are the
    image's own.  ``fine``: an iteration is one element.
    """

    view: Strided
    halo: Halo
    value: int
    fine: bool = False

    @property
    def label(self) -> str:
        """The symbol's last word."""
        return "border"

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR; its iterations are the samples (or all elements)."""
        whole = self._whole()
        return build(name, (), (whole,), self._element if self.fine else self._body, self.fine)

    def _whole(self) -> Strided:
        pairs = zip(self.view.shape[2:], self.halo.before, self.halo.after, strict=True)
        space = tuple(d + b + a for d, b, a in pairs)
        return Strided(self.view.dtype, (*self.view.shape[:2], *space), self.view.strides)

    def _body(self, frame: Frame) -> int:
        whole = self._whole()
        with I.serial(frame.lo, frame.hi) as sample:
            base = sample * whole.strides[0]
            inner: list[tuple[int, int]] = []
            for axis in range(2, whole.rank):
                size = whole.shape[axis]
                before, after = self.halo.before[axis - 2], self.halo.after[axis - 2]
                rest = [(0, d) for d in whole.shape[axis + 1 :]]
                for start, count in ((0, before), (size - after, after)):
                    if count:
                        self._block(frame, base, [*inner, (start, count), *rest])
                inner.append((before, size - before - after))
        return whole.shape[0]

    def _element(self, frame: Frame) -> int:
        """One element of the whole image: the inside is left alone."""
        whole = self._whole()
        shape = (whole.shape[0], *whole.shape[2:], self._channels(whole))
        strides = (whole.strides[0], *whole.strides[2:], 1)
        with I.serial(frame.lo, frame.hi) as step:
            at = unravel(step, shape)
            outside: Expr = tirx.const(False, "bool")
            for i, axis in enumerate(range(2, whole.rank)):
                last = whole.shape[axis] - self.halo.after[i]
                outside = tirx.Or(
                    outside, tirx.Or(at[1 + i] < self.halo.before[i], at[1 + i] >= last)
                )
            with I.If(outside), I.Then():
                frame.store(tirx.const(self.value, whole.dtype), index_of(at, strides))
        return prod(shape)

    def _block(self, frame: Frame, base: Expr, ranges: list[tuple[int, int]]) -> None:
        """Write one box of pixels, given as (first, count) per spatial axis."""
        whole = self._whole()
        strides = whole.strides[2:]
        channels = self._channels(whole)
        sizes = [count for _, count in ranges]
        first = sum(a * s for (a, _), s in zip(ranges, strides, strict=True))
        with grid([*sizes, channels]) as at:
            index = base + first + index_of(at, [*strides, 1])
            frame.store(tirx.const(self.value, whole.dtype), index)

    def _channels(self, whole: Strided) -> int:
        """Channels to write in a pixel."""
        return whole.strides[-1] if self.halo_is_ours(whole) else whole.shape[1]

    @staticmethod
    def halo_is_ours(whole: Strided) -> bool:
        """Whether the gap between pixels is padding of the channels, not another tensor's."""
        return 0 <= whole.strides[-1] - whole.shape[1] < 16
