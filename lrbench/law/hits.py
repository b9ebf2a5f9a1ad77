"""Where a number exceeds the quantile that a byte stands for: a compiled loop, or the same in NumPy where there is no numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def above(
    z: NDArray[np.float32], first: NDArray[np.uint8], quantiles: NDArray[np.float32], found: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the places where ``z > quantiles[first]``, in memory of ``found``.

    Parameters
    ----------
    z, first
        Numbers and bytes, shape (place,).
    quantiles
        What each byte stands for, shape (256,).
    found
        Room for all places.
    """
    listed = _loop()
    if listed is None:
        return np.flatnonzero(z > quantiles.take(first)).astype(np.int32)
    return found[: listed(z, first, quantiles, found)]


def _loop() -> Any:
    try:
        from lrbench.law.loop import list_above  # compiles on first use
    except ImportError:  # no numba: slower, and the same places
        return None
    return list_above
