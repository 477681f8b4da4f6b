"""Tensors of torch as numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.types import Array, TensorType
from .outputs import HALF

if TYPE_CHECKING:
    import torch


def dtype_of(dtype: torch.dtype) -> str:
    """numpy's name of an element type."""
    return str(dtype).removeprefix("torch.")


def array_of(tensor: torch.Tensor) -> Array:
    """A copy of the elements; half precision as float32."""
    data = tensor.detach().cpu().resolve_conj().resolve_neg()
    return np.array(data.float().numpy() if dtype_of(data.dtype) in HALF else data.numpy())


def memory_of(tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same elements of the same memory (tied weights)."""
    at = tensor.data_ptr() if tensor.numel() else id(tensor)
    return at, tuple(tensor.shape), tensor.stride(), tensor.dtype


def single(dtype: str) -> str:
    """``float32`` for half precision."""
    return "float32" if dtype in HALF else dtype


def type_of(found: Any) -> TensorType | None:
    """What torch says of a result; dimensions that are not known are symbols of no meaning."""
    if not hasattr(found, "dtype"):
        return None
    shape = tuple(d if isinstance(d, int) else str(d) for d in found.shape)
    return TensorType(single(dtype_of(found.dtype)), shape)
