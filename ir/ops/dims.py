"""Arithmetic on dimensions that may be symbols; a result that is not known is a new symbol.

A product is spelled ``2*batch*heads``, a sum ``(length+3)``: equal formulas give equal symbols.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from ..types import Dim
from .base import window_output

_FACTOR = re.compile(r"(?:[^*()]|\([^*]*\))+")


def known(d: Dim) -> int:
    """A dimension that must be a number."""
    if not isinstance(d, int):
        raise ValueError(f"dimension {d!r} is not known; fix it with --input-shape")
    return d


def factors(dims: Iterable[Dim]) -> tuple[int, Counter[str]]:
    """The product of ``dims`` as a number and symbols with multiplicity."""
    number, symbols = 1, Counter[str]()
    for d in dims:
        for part in [d] if isinstance(d, int) else _FACTOR.findall(d):
            if isinstance(part, int) or part.isdecimal():
                number *= int(part)
            else:
                symbols[part] += 1
    return number, symbols


def product(dims: Iterable[Dim]) -> Dim:
    """The product of ``dims``."""
    number, symbols = factors(dims)
    names = sorted(symbols.elements())
    if not names or number == 0:
        return number
    return "*".join([str(number)] * (number != 1) + names)


def quotient(whole: Sequence[Dim], part: Sequence[Dim]) -> Dim:
    """The dimension that multiplies ``part`` up to ``whole``; ``ValueError`` where none does."""
    (a, up), (b, down) = factors(whole), factors(part)
    if not b:
        raise ValueError(f"cannot tell what -1 stands for from {tuple(whole)}")
    missing = down - up
    if not missing and a % b == 0:
        return product((a // b, *(up - down).elements()))
    if not up and not down:
        raise ValueError(f"{tuple(whole)} has no multiple of {b} elements")
    return f"({product(whole)}/{product(part)})".replace("*", "x")


def plus(a: Dim, b: Dim) -> Dim:
    """``a + b``."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    if isinstance(a, int):
        a, b = b, a
    tail = f"{b:+d}" if isinstance(b, int) else f"+{b}"
    return f"({a}{tail})".replace("*", "x")


def window(
    size: Dim, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool = False
) -> Dim:
    """Output positions of a sliding window (see :func:`window_output`)."""
    if isinstance(size, int):
        return window_output(size, kernel, stride, pads, dilation, ceil)
    offset = pads[0] + pads[1] - dilation * (kernel - 1)
    if stride == 1:
        return plus(size, offset)
    return plus(f"({plus(size, offset - 1)}{'^' if ceil else '/'}{stride})".replace("*", "x"), 1)
