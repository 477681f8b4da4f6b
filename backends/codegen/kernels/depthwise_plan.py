"""How a depthwise convolution is cut: blocks of channels, groups of rows, taps of four rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .conv import ConvWorkload

_CHUNK = 4
_ITERATIONS = 8


@dataclass(frozen=True)
class DepthwiseWorkload(ConvWorkload):
    """Every output channel reads the input channel of its own number; weights are [C, 1, h, w]."""


@dataclass(frozen=True)
class DepthwiseKnobs:
    """``pixels``: output pixels of a row unrolled together."""

    pixels: int


@dataclass(frozen=True)
class Taps:
    """The rows of the kernel in ``quads`` of four; they serve ``rows`` output rows at once.

    With stride 1 four input rows serve two output rows of a 3x3 kernel, by the weights
    (w0, w1, w2, 0) and (0, w0, w1, w2).
    """

    rows: int
    quads: int
    needed: int
    width: int

    @staticmethod
    def of(workload: ConvWorkload) -> "Taps":
        """The taps of a workload."""
        (height, width), stride = workload.kernel, workload.strides[0]
        quads = -(-height // 4)
        rows = 1 if workload.dilations[0] > 1 else (4 * quads - height) // stride + 1
        rows = min(rows, workload.y.height)
        return Taps(rows, quads, (rows - 1) * stride + height, width)

    @property
    def vectors(self) -> int:
        """Quads of taps of one output of every served row."""
        return self.rows * self.quads * self.width


@dataclass(frozen=True)
class Kind:
    """``count`` blocks of ``channels``; ``fold`` groups of rows lie side by side in a vector.

    One step does all pixels of one row of groups; an iteration does up to ``chunk`` steps.
    """

    channels: int
    fold: int
    first_channel: int
    count: int
    steps: int
    chunk: int

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return self.channels * self.fold

    @property
    def iterations(self) -> int:
        """Chunks of steps of all blocks."""
        return self.count * -(-self.steps // self.chunk)

    def lane_channels(self) -> NDArray[np.intp]:
        """The channel (within the block) of every lane after the two unpack stages.

        Lane (vector g, quad q, element e) holds byte 16*q + 4*g + e of the unpacked vector.
        """
        quads = np.arange(self.width // 16)
        lanes = 4 * np.arange(4)[:, None, None] + 16 * quads[:, None] + np.arange(4)
        return lanes.ravel() % self.channels


def kinds_of(workload: ConvWorkload, lanes: int) -> list[Kind]:
    """The blocks of channels for vectors of ``lanes`` int32."""
    rows, height = Taps.of(workload).rows, workload.y.height
    kinds, channel, channels = [], 0, 4 * lanes
    while channels >= 16:
        count = (workload.y.channels - channel) // channels
        if count:
            fold = 4 * lanes // channels
            while fold * rows > height:
                fold //= 2
            steps = -(-height // (rows * fold))
            chunk = max(1, min(_CHUNK, count * steps // _ITERATIONS))
            kinds.append(Kind(channels, fold, channel, count, steps, chunk))
        channel += count * channels
        channels //= 2
    assert channel == workload.y.channels, "channels must be a multiple of 16"
    return kinds


def pack_quads(
    weights: NDArray[np.generic], workload: ConvWorkload, lanes: int
) -> list[NDArray[np.generic]]:
    """Per kind: [blocks, rows, quads, kernel columns, lanes, 4 taps]."""
    taps, stride = Taps.of(workload), workload.strides[0]
    channels, _, height, width = weights.shape
    full = np.zeros((workload.y.channels, width, taps.rows, 4 * taps.quads), weights.dtype)
    for row in range(taps.rows):
        first = row * stride
        full[:channels, :, row, first : first + height] = weights[:, 0].transpose(0, 2, 1)
    quads = full.reshape(workload.y.channels, width, taps.rows, taps.quads, 4)
    quads = quads.transpose(2, 3, 1, 0, 4)
    packed = []
    for kind in kinds_of(workload, lanes):
        blocks = kind.first_channel + kind.channels * np.arange(kind.count)[:, None]
        lane = blocks + kind.lane_channels()
        packed.append(np.ascontiguousarray(quads[:, :, :, lane].transpose(3, 0, 1, 2, 4, 5)))
    return packed
