"""Weights divided so that a few products with codes can be summed in 16 bits, exactly.

vpmaddubsw adds two products of uint8 by int8 and saturates at 16 bits.  A *step* is four adjacent
codes of the reduction, of which a lane has two pairs of weights.  Codes reach 255, so the sum of a
pair, and of the same pair of several steps (a *group*), stays in int16 while neither the positive
weights add up to more than 128 nor the negative ones (``255 * 128 < 2**15``).  A step for which no
group has room is *visited* more than once, with a part of its weights each time.  That is rare:
most weights are small, and any steps may form a group.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 128
"""What the weights of one sign may add up to in a pair of lanes of a group."""

_CHUNK = 64
"""Adjacent steps among which groups are formed, at most."""

_SAMPLE = 8

_GOLDEN = 0.6180339887498949
"""Multiples of it fill an interval evenly, with no period in common with how chunks lie."""

Words = NDArray[np.int16]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Groups:
    """The groups of some blocks of output channels, block by block in the order of the steps.

    Attributes:
        steps: ``[groups, depth]``, of every visit.
        weights: int8 ``[groups, depth, lanes * 4]``, by which the visit multiplies.
        starts: ``[blocks + 1]``, the first group of every block, and their number.
    """

    steps: Indices
    weights: NDArray[np.int8]
    starts: Indices


def divide(blocks: NDArray[np.generic], depth: int) -> Groups:
    """Weights ``[blocks, steps, lanes, 4]`` as groups of ``depth`` visits.

    The weights of all visits of a step add up to its own.
    """
    chunks = _chunks(blocks)
    each = len(chunks) // len(blocks)
    found = _Division(chunks, depth)
    first = found.rows % each * chunks.shape[1]
    steps = np.minimum(found.steps + first[:, None], blocks.shape[1] - 1)
    block = found.rows // each
    order = np.lexsort((steps.min(1), block))
    starts = np.searchsorted(block[order], np.arange(len(blocks) + 1))
    return Groups(steps[order], found.weights[order], starts)


def visits(blocks: NDArray[np.generic], depth: int) -> float:
    """Visits of a step by ``divide``, in the mean over some chunks of all places."""
    chunks = _chunks(blocks)
    some = chunks[np.unique((np.arange(_SAMPLE) * _GOLDEN % 1 * len(chunks)).astype(np.intp))]
    found = depth * len(_Division(some, depth).rows) * len(chunks) / len(some)
    return float(found / (len(blocks) * blocks.shape[1]))


def _chunks(blocks: NDArray[np.generic]) -> Words:
    """``[blocks * chunks, steps, lanes * 4]``, the last chunk of a block filled up with zeros."""
    count, steps = blocks.shape[:2]
    each = -(-steps // _CHUNK)
    size = -(-steps // each)
    flat = blocks.reshape(count, steps, -1).astype(np.int16)
    filled = np.pad(flat, ((0, 0), (0, each * size - steps), (0, 0)))
    return filled.reshape(count * each, size, -1)


def _sums(weights: Words) -> Words:
    """Sums of the positive weights of pairs, and of the negative ones: ``[..., 2 * pairs]``."""
    pairs = weights.reshape(*weights.shape[:-1], -1, 2)
    signs = [np.maximum(pairs, 0), np.maximum(-pairs, 0)]
    return np.concatenate([s[..., 0] + s[..., 1] for s in signs], -1)


def _within(weights: Words, room: Words) -> Words:
    """The part of ``weights`` whose ``_sums`` do not exceed ``room``."""
    pairs = weights.reshape(len(weights), -1, 2)
    part = np.zeros_like(pairs)
    for sign, left in zip((1, -1), np.split(room, 2, -1), strict=True):
        first = np.minimum(np.maximum(sign * pairs[..., 0], 0), left)
        second = np.minimum(np.maximum(sign * pairs[..., 1], 0), left - first)
        part += sign * np.stack([first, second], -1)
    return part.reshape(weights.shape)


class _Division:
    """Groups of the steps of chunks ``[chunks, steps, lanes * 4]``, found for all at a time.

    Each begins with the step that has the greatest sum left, and goes on with the heaviest that
    fits, else with the one of which the most fits.

    Attributes:
        rows: the chunk of every group.
        steps, weights: as in ``Groups``; where nothing is left for a visit, it has no weights.
    """

    def __init__(self, steps: Words, depth: int) -> None:
        self._left, self._sums = steps.copy(), _sums(steps)
        self._greatest, self._total = self._sums.max(-1), self._sums.sum(-1, dtype=np.int32)
        chunk, chosen, weights = [], [], []
        while len(rows := np.flatnonzero(self._greatest.any(1))):
            found = self._group(rows, depth)
            chunk.append(rows)
            chosen.append(np.stack([step for step, _ in found], 1))
            weights.append(np.stack([part for _, part in found], 1).astype(np.int8))
        nothing = np.zeros((0, depth), np.intp)
        self.rows = np.concatenate([nothing[:, 0], *chunk])
        self.steps = np.concatenate([nothing, *chosen])
        shape = (0, depth, steps.shape[-1])
        self.weights = np.concatenate([np.zeros(shape, np.int8), *weights])

    def _group(self, rows: Indices, depth: int) -> list[tuple[Indices, Words]]:
        """The next group of the chunks ``rows``: steps and what each takes along."""
        each = np.arange(len(rows))
        room = np.full((len(rows), self._sums.shape[-1]), LIMIT, np.int16)
        free = np.ones((len(rows), self._left.shape[1]), bool)
        found: list[tuple[Indices, Words]] = []
        for _ in range(min(depth, free.shape[1])):
            step = self._next(rows, room, free) if found else self._greatest[rows].argmax(1)
            part = _within(self._left[rows, step], room)
            room = room - _sums(part)
            self._left[rows, step] -= part
            left = _sums(self._left[rows, step])
            self._sums[rows, step] = left
            self._greatest[rows, step] = left.max(-1)
            self._total[rows, step] = left.sum(-1)
            free[each, step] = False
            found.append((step, part))
        return found + [(step, np.zeros_like(part))] * (depth - len(found))

    def _next(self, rows: Indices, room: Words, free: NDArray[np.bool_]) -> Indices:
        """The heaviest step that fits into ``room``; else the one of which the most does.

        Among the latter those come first that need one visit less afterwards.
        """
        sums, total = self._sums[rows], self._total[rows]
        fits = (sums <= room[:, None]).all(-1) & free & (total > 0)
        step = np.where(fits, total, 0).argmax(1)
        none = np.flatnonzero(~fits.any(1))
        if len(none):
            over = np.maximum(sums[none] - room[none, None], 0)
            gain = total[none] - over.sum(-1)
            mended = (self._greatest[rows][none] > LIMIT) & (over.max(-1) <= LIMIT)
            score = np.where(free[none], gain + mended * (LIMIT * over.shape[-1]), -1)
            step[none] = score.argmax(1)
        return np.asarray(step)
