"""One seed, several streams: world, data, evaluation, anchors and initialisation never share random numbers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return the 63-bit seed of a named stream under ``seed``; streams of different names are independent.

    Parameters
    ----------
    seed
        The seed that the user gave.
    stream
        The stream's name, for instance ``"data", 3`` for the fourth chunk of the data.
    """
    digest = hashlib.sha256(repr((int(seed), *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Return a CPU generator for the named stream; random numbers are drawn on the CPU so that every device sees the same."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *stream))
