"""Shares of a kernel side by side, on threads that sleep while they have nothing to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

from lrbench.engine.arrays import array_of


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "lrbench-engine")


def run_in_threads(kernel: Callable[..., None], size: int, *arguments: Any, grain: int = 64) -> None:
    """Run ``kernel(first, last, *arguments)`` over range(size), on as many threads as torch uses.

    Parameters
    ----------
    kernel
        One of `lrbench.engine.kernels`.
    size
        Number of samples, or rows.
    arguments
        Tensors on the CPU are handed over as arrays.
    grain
        Fewer samples than this are not worth a thread.
    """
    arrays = [array_of(argument) if isinstance(argument, torch.Tensor) else argument for argument in arguments]
    threads = max(1, min(torch.get_num_threads(), size // grain))
    if threads == 1:
        return kernel(0, size, *arrays)
    bounds = [size * share // threads for share in range(threads + 1)]
    pool = _pool(os.getpid(), threads)
    others = [pool.submit(kernel, bounds[share], bounds[share + 1], *arrays) for share in range(1, threads)]
    kernel(0, bounds[1], *arrays)
    for other in others:
        other.result()
