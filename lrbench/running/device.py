"""The device that a run trains on, without torch where the answer needs none."""

from __future__ import annotations

import sys
from pathlib import Path

from lrbench.errors import LrbenchError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> str:
    """The device that ``auto``, ``cpu`` or ``cuda`` stands for on this machine.

    Raises
    ------
    LrbenchError
        For another name, or for ``cuda`` where there is none.
    """
    _check_device(device)
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules and not _may_have_gpu()):
        return "cpu"
    import torch

    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise LrbenchError("no CUDA device on this machine: use --device cpu or --device auto")
    return "cuda" if present else "cpu"


def _may_have_gpu() -> bool:
    """Whether it is worth asking torch, which takes seconds that a run with nothing to do can spare."""
    drivers = ("nvidia[0-9]*", "kfd", "dxg")  # of Nvidia, of AMD, and of either under WSL
    return sys.platform != "linux" or any(found for driver in drivers for found in Path("/dev").glob(driver))


def _check_device(device: str) -> None:
    """Raise `LrbenchError` for what is no device."""
    if device not in DEVICES:
        raise LrbenchError(f"unknown device {device!r}: expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
