"""Fills the border around an image with the code of zero."""

from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from .layout import Halo, Strided
from .loops import Expr, Frame, build, grid, index_of
from .program import Emitted


@dataclass(frozen=True)
class FillBorder:
    """Writes ``value`` to the pixels of ``halo``; the pointer is at the border's first pixel.

    All channels that lie between this pixel and the next are written only if they are the
    image's own.
    """

    view: Strided
    halo: Halo
    value: int

    @property
    def label(self) -> str:
        """The symbol's last word."""
        return "border"

    def emit(self, name: str) -> Emitted:
        """The kernel as TIR; its iterations are the samples."""
        whole = self._whole()
        return build(name, (), (whole,), self._body)

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

    def _block(self, frame: Frame, base: Expr, ranges: list[tuple[int, int]]) -> None:
        """Write one box of pixels, given as (first, count) per spatial axis."""
        whole = self._whole()
        strides = whole.strides[2:]
        channels = whole.shape[1]
        if self.halo_is_ours(whole):
            channels = whole.strides[-1]
        sizes = [count for _, count in ranges]
        first = sum(a * s for (a, _), s in zip(ranges, strides, strict=True))
        with grid([*sizes, channels]) as at:
            index = base + first + index_of(at, [*strides, 1])
            frame.store(tirx.const(self.value, whole.dtype), index)

    @staticmethod
    def halo_is_ours(whole: Strided) -> bool:
        """Whether the gap between pixels is padding of the channels, not another tensor's."""
        return 0 <= whole.strides[-1] - whole.shape[1] < 16
