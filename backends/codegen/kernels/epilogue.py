"""What happens to an accumulator before it is stored."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Residual:
    """Addition of a uint8 operand ``r``: ``(rint(v) + r*multiplier + constant) >> shift``."""

    multiplier: int
    shift: int
    constant: int


@dataclass(frozen=True)
class Epilogue:
    """Requantization of the int32 accumulator ``acc`` (bias included) of one output channel.

    With ``v = float32(acc) * multiplier`` (one float32 multiply) the result is, by ``dtype``:

    - uint8, uint16: ``q = clip(rint(v) + zero_point, low, high)``, rint rounding half to even;
      with ``residual`` ``q = clip((int32(rint(v)) + r*multiplier + constant) >> shift, low, high)``
      for which the caller guarantees ``|rint(v)| < 2**30``; with ``table`` (uint8 only) the
      result is ``table[q]``;
    - float32: ``v``;
    - int32: ``acc``.
    """

    dtype: str
    zero_point: int = 0
    low: int = 0
    high: int = 255
    residual: Residual | None = None
    table: bool = False

    def __post_init__(self) -> None:
        """Refuse the combinations which have no meaning."""
        if self.dtype not in ("uint8", "uint16", "float32", "int32"):
            raise ValueError(f"no epilogue for output dtype {self.dtype!r}")
        if self.table and self.dtype != "uint8":
            raise ValueError("a table needs a uint8 output")
        if self.residual is not None and self.dtype not in ("uint8", "uint16"):
            raise ValueError("a residual needs an integer code as output")


@dataclass(frozen=True)
class FloatEpilogue:
    """Clamp of a float32 sum to ``low`` and ``high``; infinities clamp nothing."""

    low: float = float("-inf")
    high: float = float("inf")
