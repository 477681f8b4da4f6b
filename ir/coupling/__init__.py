"""Coupled channels: the analysis that pruning, reordering, rescaling and rotation share."""

from .action import Action
from .coupling import ChannelGroup, Coupling
from .ids import Place
from .relations import Axis, Relations
from .sites import Site, Sites

__all__ = ["Action", "Axis", "ChannelGroup", "Coupling", "Place", "Relations", "Site", "Sites"]
