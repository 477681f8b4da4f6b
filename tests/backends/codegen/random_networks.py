"""Random integer networks: a walk that keeps adding ops to values it has made.

Fixed networks only hold the combinations that somebody thought of; the mistakes are in the others
(a view inside a concatenation, a border that two readers want).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from networks import Net

from qc.ir.graph import Value
from qc.ir.ops import elementwise as ew
from qc.ir.ops import index, integer, pool, resize, shape

T = TypeVar("T")

CHANNELS = (3, 8, 10, 16, 24, 32, 48, 64, 80)
LARGEST = 1 << 15


class Walk:
    """Grows one network; every step takes values made before."""

    def __init__(self, net: Net, seed: int) -> None:
        self.net = net
        self.rng = np.random.default_rng(seed)
        net.rng = self.rng
        channels, height, width = self.one(CHANNELS), self.int(5, 18), self.int(5, 18)
        self.values = [net.codes(1, channels, height, width)]
        self.steps: tuple[Callable[[Value], Value | None], ...] = (
            self.conv, self.conv, self.conv, self.depthwise, self.grouped, self.residual,
            self.max_pool, self.mean_pool, self.concat, self.concat, self.split, self.slice,
            self.shuffle, self.pick, self.transpose, self.pad, self.resize, self.table, self.sum,
            self.clip, self.product,
        )  # fmt: skip

    def grow(self, steps: int) -> None:
        """Add ops, then make outputs of what nothing reads and of some that something does."""
        for _ in range(steps):
            x = self.values[-1] if self.rng.random() < 0.6 else self.one(self.values)
            made = self.one(self.steps)(x)
            if made is not None and 0 < made.type.size <= LARGEST:
                self.values.append(made)
        last = self.net.add(shape.Flatten(1), self.values[-1])
        self.net.real(self.net.dense(last, 10))
        for value in self.values:
            if not value.uses or self.rng.random() < 0.15:
                self.net.real(value)

    def one(self, choices: Sequence[T]) -> T:
        """Any of these."""
        return choices[int(self.rng.integers(len(choices)))]

    def int(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, inclusive."""
        return int(self.rng.integers(low, high + 1))

    def conv(self, x: Value) -> Value | None:
        """Any kernel, stride, padding and dilation that fit."""
        kernel = (self.one((1, 1, 3, 3, 5)), self.one((1, 3, 3)))
        dilation, stride = self.one((1, 1, 2)), self.one((1, 1, 2))
        pads = [self.int(0, k // 2 * dilation) for k in (*kernel, *kernel)]
        reach = [dilation * (k - 1) + 1 for k in kernel]
        if any(d < r for d, r in zip(x.shape[2:], reach, strict=True)):
            return None
        code = self.one((0, 128, 128, 7))
        return self.net.conv(x, self.one(CHANNELS), kernel, stride, pads, dilation, pad_value=code)

    def depthwise(self, x: Value) -> Value | None:
        """One filter per channel."""
        k = self.one((3, 3, 5))
        if min(x.shape[2:]) < k:
            return None
        return self.net.conv(x, x.shape[1], (k, k), self.one((1, 1, 2)), group=x.shape[1])

    def grouped(self, x: Value) -> Value | None:
        """Some groups."""
        groups = [g for g in (2, 3, 4, 5) if x.shape[1] % g == 0]
        if not groups or min(x.shape[2:]) < 3:
            return None
        g = self.one(groups)
        return self.net.conv(x, g * self.one((1, 4, 8)), group=g)

    def residual(self, x: Value) -> Value:
        """A convolution whose epilogue adds a value of its result's shape."""
        residual = integer.Residual(self.int(50, 200), 8, -self.int(8000, 12000))
        epilogue = integer.Epilogue(zero_point=100, residual=residual, low=self.one((0, 3)))
        return self.net.conv(x, x.shape[1], (1, 1), epilogue=epilogue, extra=[x])

    def max_pool(self, x: Value) -> Value | None:
        """Windows with padding and ceil mode."""
        if min(x.shape[2:]) < 3:
            return None
        pads = (1, 1, 1, 1) if self.rng.random() < 0.5 else (0, 0, 0, 0)
        stride = self.one((1, 2))
        return self.net.add(
            pool.MaxPool((3, 3), (stride, stride), pads, ceil_mode=bool(self.int(0, 1))), x
        )

    def mean_pool(self, x: Value) -> Value:
        """The mean of the whole map."""
        size = int(np.prod(x.shape[2:]))
        op = integer.QAveragePool(
            x.shape[2:], (1, 1), (0,) * 4, ((size, round(2**20 / size)),), 120, 120 << 20, 20
        )
        return self.net.add(op, x)

    def concat(self, x: Value) -> Value:
        """Values of one map size, side by side."""
        fits = [v for v in self.values if v.shape[2:] == x.shape[2:]]
        parts = [x, *(self.one(fits) for _ in range(self.int(1, 2)))]
        self.rng.shuffle(parts)  # type: ignore[arg-type]
        return self.net.add(shape.Concat(1), *parts)

    def split(self, x: Value) -> Value | None:
        """Both halves are there for later steps."""
        c = x.shape[1]
        if c < 2:
            return None
        first = 16 if c > 16 and self.rng.random() < 0.5 else c // 2
        a, b = self.net.graph.add(shape.Split(1, (first, c - first)), [x]).outputs
        self.values.append(a)
        return b

    def slice(self, x: Value) -> Value | None:
        """A window of channels or pixels, with steps."""
        axis = self.int(1, 3)
        size = x.shape[axis]
        if size < 4:
            return None
        first, step = self.int(0, size // 3), self.one((1, 1, 2))
        return self.net.add(index.Slice((first,), (size,), (axis,), (step,)), x)

    def shuffle(self, x: Value) -> Value | None:
        """A channel shuffle."""
        n, c, h, w = x.shape
        if c % 2:
            return None
        a = self.net.add(shape.Reshape((n, 2, c // 2, h, w)), x)
        b = self.net.add(shape.Transpose((0, 2, 1, 3, 4)), a)
        return self.net.add(shape.Reshape((n, c, h, w)), b)

    def pick(self, x: Value) -> Value:
        """One half of the interleaved channels, or any channels."""
        n, c, h, w = x.shape
        if c % 2 == 0 and self.rng.random() < 0.5:
            a = self.net.add(shape.Transpose((1, 0, 2)), self.net.add(
                shape.Reshape((c // 2, 2, h * w)), x))  # fmt: skip
            b = self.net.add(shape.Reshape((2, n, c // 2, h, w)), a)
            return self.net.add(index.Gather(0), b, self.net.const(np.int64(self.int(0, 1))))
        chosen = self.rng.integers(0, c, self.one((4, 16, 20)))
        return self.net.add(index.Gather(1), x, self.net.const(chosen.astype(np.int64)))

    def transpose(self, x: Value) -> Value:
        """Rows become columns."""
        return self.net.add(shape.Transpose((0, 1, 3, 2)), x)

    def pad(self, x: Value) -> Value:
        """A border of one code."""
        pads = (0, 0, self.int(0, 2), self.int(0, 2), 0, 0, self.int(0, 2), self.int(0, 2))
        return self.net.add(index.Pad(pads=pads, value=float(self.one((0, 128)))), x)

    def resize(self, x: Value) -> Value:
        """Each pixel twice."""
        return self.net.add(
            resize.Resize(
                scales=(1.0, 1.0, 2.0, 2.0), coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ), x,
        )  # fmt: skip

    def table(self, x: Value) -> Value:
        """Any function."""
        return self.net.add(integer.QTable(), x, self.net.table())

    def sum(self, x: Value) -> Value:
        """Values of one shape, or with a vector of channels."""
        fits = [v for v in self.values if v.shape == x.shape or v.shape == (*x.shape[:2], 1, 1)]
        return self.net.sum(x, self.one(fits)) if fits else self.net.sum(x)

    def clip(self, x: Value) -> Value:
        """Bounds."""
        return self.net.add(ew.Clip(self.int(0, 60), self.int(190, 255)), x)

    def product(self, x: Value) -> Value:
        """A gate."""
        fits = [v for v in self.values if v.shape == x.shape or v.shape == (*x.shape[:2], 1, 1)]
        op = integer.QMul(100, 120, 0.01, 128)
        return self.net.add(op, x, self.one(fits) if fits else x)


def random_network(seed: int, steps: int = 12) -> Callable[[Net], None]:
    """A network by its seed, to add to others."""
    return lambda net: Walk(net, seed).grow(steps)
