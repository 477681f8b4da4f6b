"""A window of an NHWC activation inside a bigger buffer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """``height`` x ``width`` pixels of ``channels``; strides count elements, not bytes.

    The pointer that a kernel gets points at element (0, 0, 0). Views of inputs include the halo:
    the padding is ordinary memory to the kernels. The batch is folded into ``height`` or is a loop
    of the caller.
    """

    height: int
    width: int
    channels: int
    row_stride: int
    pixel_stride: int
    dtype: str

    @staticmethod
    def dense(height: int, width: int, channels: int, dtype: str) -> "View":
        """The view of a whole contiguous buffer."""
        return View(height, width, channels, width * channels, channels, dtype)

    @property
    def span(self) -> int:
        """Elements from the first to the last one of the window, both included."""
        rows, columns = (self.height - 1) * self.row_stride, (self.width - 1) * self.pixel_stride
        return rows + columns + self.channels

    @property
    def rows_join(self) -> bool:
        """Whether the next row starts one pixel after the end of this one."""
        return self.height == 1 or self.row_stride == self.width * self.pixel_stride

    def joined(self) -> "View":
        """The same pixels as a single row; needs ``rows_join``."""
        assert self.rows_join
        width = self.height * self.width
        stride = width * self.pixel_stride
        return View(1, width, self.channels, stride, self.pixel_stride, self.dtype)
