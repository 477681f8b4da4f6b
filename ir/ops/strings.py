"""Ops on strings, which are numpy objects in arrays of element type ``string``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, TensorType
from .base import Op, Operands, broadcast, given, operand
from .control import symbol


def _strings(ins: Operands, index: int = 0) -> TensorType:
    t = operand(ins, index).type
    if t.dtype != "string":
        raise ValueError(f"{operand(ins, index)!r} holds no strings")
    return t


@dataclass(frozen=True)
class StringNormalizer(Op):
    """The strings that are not ``stopwords``, in other letters; ``[C]`` or ``[1, C]``.

    ``case_change_action`` is ``NONE``, ``LOWER`` or ``UPPER``.  Where no string remains there is
    an empty one.
    """

    case_change_action: str = "NONE"
    is_case_sensitive: bool = False
    stopwords: tuple[str, ...] = ()

    def infer(self, ins: Operands) -> list[TensorType]:
        x = _strings(ins)
        if x.rank not in (1, 2) or (x.rank == 2 and x.shape[0] != 1):
            raise ValueError(f"{x} is neither [C] nor [1, C]")
        count = symbol("normalized", operand(ins, 0).name)
        return [TensorType("string", (*x.shape[:-1], count))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        fold = (lambda s: s) if self.is_case_sensitive else str.lower
        stop = {fold(w) for w in self.stopwords}
        change = {"LOWER": str.lower, "UPPER": str.upper}.get(self.case_change_action, str)
        kept = [change(w) for w in map(str, x.ravel()) if fold(w) not in stop]
        return [np.array(kept or [""], object).reshape((*x.shape[:-1], -1))]


class StringConcat(Op):
    """Strings one behind the other; operands broadcast."""

    def infer(self, ins: Operands) -> list[TensorType]:
        return [TensorType("string", broadcast(_strings(ins).shape, _strings(ins, 1).shape))]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        a, b = (given(ins, i).astype(object) for i in range(2))
        return [np.asarray(np.add(a, b), object)]


@dataclass(frozen=True)
class StringSplit(Op):
    """The parts of each string along a new last axis, filled up with empty ones; how many.

    An empty ``delimiter`` means runs of white space; ``maxsplit`` -1 means all parts.
    """

    delimiter: str = ""
    maxsplit: int = -1

    def infer(self, ins: Operands) -> list[TensorType]:
        x = _strings(ins)
        parts = symbol("parts", operand(ins, 0).name)
        return [TensorType("string", (*x.shape, parts)), TensorType("int64", x.shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x = given(ins)
        parts = [str(s).split(self.delimiter or None, self.maxsplit) for s in x.ravel()]
        counts = np.array([len(p) for p in parts], np.int64)
        y = np.full((x.size, int(counts.max(initial=0))), "", object)
        for row, strings in zip(y, parts, strict=True):
            row[: len(strings)] = strings
        return [y.reshape(*x.shape, y.shape[1]), counts.reshape(x.shape)]


@dataclass(frozen=True)
class RegexFullMatch(Op):
    """Whether each string as a whole matches ``pattern``."""

    pattern: str = ""

    def infer(self, ins: Operands) -> list[TensorType]:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r}: {error}") from error
        return [TensorType("bool", _strings(ins).shape)]

    def eval(self, ins: Sequence[Array | None]) -> list[Array]:
        x, rule = given(ins), re.compile(self.pattern)
        found = [rule.fullmatch(str(s)) is not None for s in x.ravel()]
        return [np.array(found, np.bool_).reshape(x.shape)]
