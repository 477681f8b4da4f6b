"""Coupled channels: the analysis that pruning, reordering, rescaling and rotation share."""

from .coupling import ChannelGroup, Coupling, Place
from .relations import Axis, Relations

__all__ = ["Axis", "ChannelGroup", "Coupling", "Place", "Relations"]
