"""Formats by name, as recipes call them."""

from __future__ import annotations

import re
from functools import cache

from ..errors import PreconditionError, nearest
from .base import Format
from .bfp import Bfp
from .logarithmic import Logarithmic
from .mx import FLOATS, INT8, Mx
from .scaled import ScaledFloat, ScaledInt

EXAMPLES = (
    *(f"mx{element}" for element in (INT8, *FLOATS)), "bfp4-16", "bfp8-64", "bfp4e5-32",
    "int2", "int4-32", "int8", "e2m1", "e3m0-32", "e1m2", "log2-4bit", "logsqrt2-4bit",
)  # fmt: skip
"""Names that errors and tables show; numbers may be others."""

_FLOATS = ("e2m1", "e3m0", "e1m2")
_BLOCK = r"(?:-(?P<block>[1-9]\d*))?"


@cache
def parse(name: str) -> Format:
    """The format called ``name``; ``PreconditionError`` names the nearest for an unknown one.

    ``bfp4-16`` is a block float of 4 bits in blocks of 16, ``bfp4e5-16`` with an exponent of 5;
    ``mxfp4`` and its like have blocks of 32; ``int4-32`` are groups of 32, ``int4`` a factor for
    the whole axis, ``e2m1`` and ``e2m1-32`` likewise; ``log2-4bit``, ``logsqrt2-4bit``.
    """
    try:
        found = _parsed(name)
    except ValueError as error:
        raise PreconditionError(f"number format {name!r}: {error}") from error
    if found is None:
        raise PreconditionError(f"there is no number format {name!r}; {nearest(name, EXAMPLES)}")
    return found


def _parsed(name: str) -> Format | None:
    if name.startswith("mx") and name[2:] in (INT8, *FLOATS):
        return Mx(element=name[2:])
    if m := re.fullmatch(rf"bfp(?P<m>\d)(?:e(?P<e>\d))?{_BLOCK}", name):
        return Bfp(int(m["block"] or 0), int(m["m"]), int(m["e"] or 8))
    if m := re.fullmatch(rf"int(?P<width>\d){_BLOCK}", name):
        return ScaledInt(int(m["block"] or 0), int(m["width"]))
    if m := re.fullmatch(rf"(?P<kind>{'|'.join(_FLOATS)}){_BLOCK}", name):
        return ScaledFloat(int(m["block"] or 0), int(m["kind"][1]), int(m["kind"][3]))
    if m := re.fullmatch(r"log(?P<base>2|sqrt2)-(?P<width>\d)bit", name):
        return Logarithmic(0, int(m["width"]), 1 if m["base"] == "2" else 2)
    return None
