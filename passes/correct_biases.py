"""Biases of a quantized network, corrected layer by layer so that means stay where they were.

Rounding and clipping shift the mean of a channel, and noise that passes a ReLU shifts it again.
Every layer's bias takes back what is missing on average once all layers before it are corrected.
Source: Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction",
2019, section 4.2 and appendix D (empirical correction); the shrinking is ours.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from ..ir.evaluate import walk
from ..ir.graph import Graph, Node, Value
from ..ir.ops.quantize import Dequantize
from ..ir.types import Array
from .context import Context, Feed

HELD = 1 << 29
"""Bytes that the values of all samples may hold at once; large networks take fewer samples."""

FEWEST = 4
"""Means over fewer samples say too little for a correction."""

DOUBT = 2.0
"""How much the variance of a mean counts against it: 1 corrects by too much chance where there is
little to correct (logits that are averages), 4 leaves errors that are certain."""

GREATEST = 2**30
"""Corrected biases stay within this, so that sums have room."""


def correct_biases(real: Graph, coded: Graph, context: Context, samples: int) -> int:
    """Correct the int32 biases of ``coded`` by the means of ``real``; the number of layers.

    Takes the first ``samples`` of the calibration data, fewer where their values would need too
    much memory.  A channel's correction shrinks by how uncertain its mean is.
    """
    layers = {n.output.name: n for n in coded.nodes if _bias(n) and n.output.name in real}
    feeds = list(islice(context.feeds("bias correction"), samples))
    feeds = feeds[: HELD // max(_most_held(coded, feeds[0]), 1)]
    if len(feeds) < FEWEST:
        return 0
    run = context.open(real, list(layers))
    means = [{k: _mean(layers[k], array) for k, array in run(feed).items()} for feed in feeds]
    for node, found in walk(coded, feeds):
        name = node.output.name
        if name in layers:
            arrays = found[name]
            missing = [m[name] - _mean(node, a) for m, a in zip(means, arrays, strict=True)]
            gained = _add(coded, node, _shrunk(missing))
            found[name] = [a + gained for a in arrays]
    return len(layers)


def _bias(node: Node) -> tuple[Value, Dequantize] | None:
    """The codes of a quantized layer's bias, and what dequantizes them."""
    if node.op.name not in ("Conv", "Gemm") or len(node.operands) < 3:
        return None
    producer = node.operands[2].producer
    if producer is None or not isinstance(producer.op, Dequantize):
        return None
    return producer.operands[0], producer.op


def _add(graph: Graph, node: Node, amount: Array) -> Array:
    """Add ``[channels]`` to a layer's bias; what its results gain, in a shape that broadcasts."""
    bias = _bias(node)
    assert bias is not None
    codes, op = bias
    before, unit = np.asarray(codes.data, np.int64), np.asarray(op.scale)
    after = np.clip(before + np.rint(amount / unit).astype(np.int64), -GREATEST, GREATEST)
    graph.assign(codes, after.astype(np.int32))
    gained: Array = ((after - before) * unit).astype(np.float32)
    return gained.reshape(-1, *(1,) * (node.output.type.rank - 1 - _channel_axis(node)))


def _shrunk(missing: Sequence[Array]) -> Array:
    """The mean of one ``[channels]`` per sample, less where it may be chance.

    Shrunk in the manner of James and Stein, ``1 - DOUBT * variance / mean**2`` and at least 0.
    """
    mean, variance = np.mean(missing, 0), np.var(missing, 0, ddof=1) / len(missing)
    kept = np.maximum(1 - DOUBT * variance / np.maximum(mean**2, 1e-30), 0)
    return np.asarray(mean * kept)


def _mean(node: Node, array: Array) -> Array:
    """float64 ``[channels]`` of a layer's result."""
    others = tuple(i for i in range(array.ndim) if i != _channel_axis(node))
    return np.asarray(array.mean(others, dtype=np.float64))


def _channel_axis(node: Node) -> int:
    return 1 if node.op.name == "Conv" else node.output.type.rank - 1


def _most_held(graph: Graph, feed: Feed) -> int:
    """Bytes that the values of one sample hold at most."""
    return max(
        sum(a.nbytes for arrays in found.values() for a in arrays)
        for _, found in walk(graph, [feed])
    )
