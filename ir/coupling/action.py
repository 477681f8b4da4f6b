"""What can be done to coupled channels."""

from enum import Flag, auto


class Action(Flag):
    """An action on channels; ops say under which of them their axes correspond.

    ``DELETE`` and ``PERMUTE`` are about which channels there are (``COUPLED`` is both).  The others
    change numbers and keep the network's function: ``SCALE`` multiplies a channel by a positive
    factor, ``SHIFT`` adds a number to it, ``ROTATE`` mixes the channels of a group by an orthogonal
    matrix.  What is linear commutes with ``SCALE`` and ``ROTATE`` (``LINEAR``); ``VALUES`` are all
    three.
    """

    DELETE = auto()
    PERMUTE = auto()
    SCALE = auto()
    SHIFT = auto()
    ROTATE = auto()
    COUPLED = DELETE | PERMUTE
    LINEAR = SCALE | ROTATE
    VALUES = SCALE | SHIFT | ROTATE
    ALL = COUPLED | VALUES
