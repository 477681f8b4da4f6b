"""The selective scan in torch: log2(length) parallel steps, which train fast and trace short."""

from __future__ import annotations

import operator

import torch
from torch import Tensor
from torch.fx import Node as Step
from torch.nn import functional as F

from ...ir import ops
from ...ir.ops.selective_scan import SLOPE
from .emitter import Site


def selective_scan(site: Site) -> list[Step]:
    """``SelectiveScan``."""
    op = site.node.op
    assert isinstance(op, ops.SelectiveScan)
    ins = [site.optional(i) for i in range(SLOPE + 1)]
    both = site.call(scanned, *ins, op.softplus, op.reverse)
    return [site.call(operator.getitem, both, i) for i in (0, 1)]


def scanned(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None,
    z: Tensor | None, bias: Tensor | None, start: Tensor | None, slope: Tensor | None,
    softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """All results and the last state (Hillis and Steele, "Data parallel algorithms", 1986)."""
    delta = delta if bias is None else delta + bias
    delta = F.softplus(delta) if softplus else delta
    decay = torch.exp(delta.unsqueeze(-1) * a)
    state = (delta * u).unsqueeze(-1) * b.unsqueeze(2)
    if reverse:
        decay, state = decay.flip(1), state.flip(1)
    if start is not None:
        first = state[:, :1] + decay[:, :1] * start.unsqueeze(1)
        state = torch.cat([first, state[:, 1:]], 1)
    shift, length = 1, u.shape[1]
    while shift < length:
        late = decay[:, shift:]
        state = torch.cat([state[:, :shift], late * state[:, :-shift] + state[:, shift:]], 1)
        decay = torch.cat([decay[:, :shift], late * decay[:, :-shift]], 1)
        shift *= 2
    last = state[:, -1]
    y = torch.matmul(state.flip(1) if reverse else state, c.unsqueeze(-1)).squeeze(-1)
    y = y if d is None else y + d * u
    if z is not None:
        y = y * (F.silu(z) if slope is None else z * torch.sigmoid(slope * z))
    return y, last
