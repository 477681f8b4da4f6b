"""The errors that people see: what happened, where (node, op, file), what to do about it."""

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 16
"""Names listed where none is near."""


class QcError(Exception):
    """Base of all errors of this package; its message is one line for a person."""


class FrontendError(QcError):
    """A model file cannot be read or holds something that is not supported."""


class DataError(QcError):
    """Calibration or evaluation data do not fit the model."""


class VerifyError(QcError):
    """A graph breaks an invariant of the IR; the message names the line of IR text."""


class PassError(QcError):
    """A pass failed."""


class PreconditionError(PassError):
    """A pass was asked to run where its requirements do not hold (order, options)."""


class ContractError(PassError):
    """A pass did not preserve what its kind promises."""


class TargetError(QcError):
    """A target description is wrong, or this machine lacks what the code needs."""


class BackendError(QcError):
    """Code generation, linking or running failed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that ends an error about an unknown ``name``: the nearest known one, else all."""
    known = sorted(known)
    close = get_close_matches(name, known, 1, 0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"
