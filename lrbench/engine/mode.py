"""Which path the engine takes: the compiled kernels where they can run, the reference operations elsewhere or on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from lrbench.engine import processor
from lrbench.errors import LrbenchError

try:
    from lrbench.engine import kernels as kernels

    MISSING: str | None = None
except ImportError as error:  # numba has no wheel for every platform; the reference path needs none
    MISSING = str(error)
    kernels = None  # type: ignore[assignment]

KERNEL_TYPES = (torch.float32, torch.float64, torch.int32)
MODES = ("auto", "exact", "reference")
WORTH_ROUNDING = 2**28  # multiplications of an encoder product above which a short-list in bfloat16 pays

_asked: ContextVar[str] = ContextVar("lrbench_engine", default=os.environ.get("LRBENCH_ENGINE") or "auto")


def mode() -> str:
    """Return ``"auto"``, ``"exact"`` or ``"reference"``, as set by `use`, or by ``LRBENCH_ENGINE`` at the start.

    ``"exact"`` never short-lists in bfloat16; ``"reference"`` also does without the kernels.

    Raises
    ------
    LrbenchError
        For another value.
    """
    asked = _asked.get()
    if asked not in MODES:
        raise LrbenchError(f"LRBENCH_ENGINE={asked!r}: expected {', '.join(MODES)}")
    return asked


@contextmanager
def use(name: str) -> Iterator[None]:
    """Take one of the paths inside a ``with`` block."""
    token = _asked.set(name)
    try:
        mode()
        yield
    finally:
        _asked.reset(token)


def kernels_take(tensor: Tensor) -> bool:
    """Whether the kernels take a weight, or a selection, and what goes with it: numba is there, and it lies on the CPU in their types."""
    return MISSING is None and mode() != "reference" and tensor.is_cpu and tensor.dtype in KERNEL_TYPES


def shortlist_pays(n_samples: int, w: Tensor) -> bool:
    """Whether a short-list of the product of ``n_samples`` inputs with ``w`` in bfloat16 pays: it is large, and this CPU multiplies in it."""
    large = n_samples * w.numel() >= WORTH_ROUNDING
    return mode() == "auto" and large and w.dtype == torch.float32 and processor.multiplies_bfloat16()


def host_waits_for(tensor: Tensor) -> bool:
    """Whether the host would have to wait for a device to know a number in this tensor, or how many are of some kind."""
    return tensor.is_cuda


def describe() -> str:
    """Return the path that training takes on a CPU here."""
    if MISSING is not None or mode() == "reference":
        return "reference"
    return mode()
