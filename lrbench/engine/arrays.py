"""Tensors on the CPU as the arrays that the kernels take. At small widths the conversion costs more than the kernel: it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int16: np.int16, torch.int64: np.int64, torch.bool: np.bool_}  # fmt: skip


def array_of(tensor: Tensor) -> Any:
    """Return the array that shares a tensor's memory."""
    kept = getattr(tensor, "array", None)
    if kept is not None and kept[0] == id(tensor):  # a copy of a tensor copies what is attached to it
        return kept[1]
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def keep_array(tensor: Tensor) -> Any:
    """Convert a tensor for good, one whose memory stays where it is, and return its array."""
    array = array_of(tensor)
    tensor.array = id(tensor), array  # type: ignore[attr-defined]
    return array


def room(*shape: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor that is converted for good."""
    return with_array(np.empty(shape, _NUMPY[dtype]))


def with_array(array: Any) -> Tensor:
    """Return an array as a tensor that is converted for good."""
    tensor = torch.from_numpy(array)
    tensor.array = id(tensor), array  # type: ignore[attr-defined]
    return tensor
