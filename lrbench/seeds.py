"""One seed, several streams: world, data, evaluation, anchors and initialisation never share random numbers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def fork_global_generators(seed: int, *stream: str | int) -> Iterator[None]:
    """Seed the global generators of `random`, NumPy and torch by the named stream, and put the old ones back at the end.

    What draws from them by default, such as the first weights of an ``nn.Linear``, then follows from ``seed`` as well.

    Examples
    --------
    >>> import torch
    >>> with fork_global_generators(0, "fit"):
    ...     first = torch.nn.Linear(2, 2).weight
    >>> with fork_global_generators(0, "fit"):
    ...     print(bool((torch.nn.Linear(2, 2).weight == first).all()))
    True
    """
    import numpy as np
    import torch

    own = derive_seed(seed, *stream)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (for code that uses the global generator)
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if started else ()  # asking a device for its state would start CUDA
    try:
        with torch.random.fork_rng(devices):
            random.seed(own)
            np.random.seed(own % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(own)
            if started:
                torch.cuda.manual_seed_all(own)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
