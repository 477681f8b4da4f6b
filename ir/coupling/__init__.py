"""Coupled channels: the analysis that pruning, reordering, rescaling and rotation share."""

from .action import Action
from .coupling import ChannelGroup, Coupling
from .heads import Heads, heads
from .ids import Place
from .relations import Axis, Relations
from .sites import Site, Sites

__all__ = [
    "Action",
    "Axis",
    "ChannelGroup",
    "Coupling",
    "Heads",
    "Place",
    "Relations",
    "Site",
    "Sites",
    "heads",
]
