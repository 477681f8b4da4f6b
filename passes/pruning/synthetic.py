"""Inputs where there is no data: images of overlapping shapes, scaled as the network expects them.

Natural images are well imitated by *dead leaves*: opaque disks of random colours that cover each
other, of sizes that follow a power law.  What the first batch normalization remembers of its
inputs tells the mean and the scale of the network's input; without one they are 0 and 1.

Sources: Lee, Mumford and Huang, "Occlusion models for natural images", 2001 (dead leaves); Baradad
et al., "Learning to see by looking at noise", 2021 (training on them).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.graph import Graph, Node
from ...ir.types import Array
from ..context import Context, Feed

SMALLEST = 0.03
"""Of an image's side: the least radius of a disk."""

DISKS = 150
"""Per image: enough to cover it several times."""

CHROMA = 0.3
"""How far a disk's channels differ, beside its brightness."""

CONTRAST, BRIGHTNESS = (0.3, 1.3), 0.5
"""Range of images' standard deviations, and the standard deviation of their means."""


def synthetic(graph: Graph, context: Context, count: int) -> list[Feed]:
    """``count`` feeds from the context's seed; noise for inputs that are no maps."""
    rng = np.random.default_rng(context.seed)
    feeds: list[Feed] = [
        {v.name: _input(rng, v.shape).astype(v.type.dtype) for v in graph.inputs}
        for _ in range(count)
    ]
    norms = [n for n in graph.nodes if _remembers(n)]
    if norms and len(graph.inputs) == 1:
        (name,) = feeds[0]
        gain, offset = _scale(norms[0], graph, context, feeds)
        feeds = [{name: (gain * f[name] + offset).astype(f[name].dtype)} for f in feeds]
    return feeds


def _input(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    if len(shape) != 4:
        return rng.standard_normal(shape)
    return np.stack([_leaves(rng, *shape[1:]) for _ in range(shape[0])])


def _leaves(rng: np.random.Generator, channels: int, height: int, width: int) -> Array:
    """One image ``[C, H, W]``; many have a mean of 0 and a variance of about 1."""
    rows, columns = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    image = np.zeros((channels, height, width))
    for _ in range(DISKS):
        radius = SMALLEST / np.sqrt(rng.uniform(SMALLEST**2, 1))
        y, x = rng.uniform(0, 1, 2)
        inside = np.square(rows - y) + np.square(columns - x) < radius**2
        image[:, inside] = rng.uniform(-1, 1) + CHROMA * rng.uniform(-1, 1, (channels, 1))
    standard = (image - image.mean()) / max(float(image.std()), 1e-6)
    contrast, brightness = rng.uniform(*CONTRAST), rng.normal(0, BRIGHTNESS)
    return np.asarray(contrast * standard + brightness)


def _remembers(node: Node) -> bool:
    """A batch norm of what a convolution without padding effects makes of the input itself."""
    maker = node.operands[0].producer if node.operands else None
    return (
        node.op.name == "BatchNormalization"
        and all(v.is_constant for v in node.operands[1:])
        and maker is not None
        and maker.op.name == "Conv"
        and maker.operands[0].producer is None
    )


def _scale(
    norm: Node, graph: Graph, context: Context, feeds: Sequence[Feed]
) -> tuple[float, float]:
    """Gain and offset of the input that give the norm the statistics that it remembers."""
    value = norm.operands[0]
    run = context.open(graph, [value.name])

    def observed(inputs: Sequence[Feed]) -> Array:
        maps = np.concatenate([run(f)[value.name] for f in inputs])
        return np.asarray(maps.swapaxes(0, 1).reshape(maps.shape[1], -1), np.float64)

    mean, variance = (np.asarray(v.data, np.float64) for v in norm.operands[3:5])
    (name,) = feeds[0]
    seen = observed(feeds[:32])
    base = observed([{name: np.zeros_like(feeds[0][name])}]).mean(1)
    unit = observed([{name: np.ones_like(feeds[0][name])}]).mean(1) - base
    gain = float(np.sqrt(np.median(variance / np.maximum(seen.var(1), 1e-12))))
    missing = mean - base - gain * (seen.mean(1) - base)
    offset = float((unit * missing).sum() / max(float(np.square(unit).sum()), 1e-12))
    return gain, offset
