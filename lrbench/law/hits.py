"""What is drawn: compiled loops, or the same in NumPy where there is no numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr


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
    loops = _loops()
    if loops is None:
        return np.flatnonzero(z > quantiles.take(first)).astype(np.int32)
    return found[: loops.list_above(z, first, quantiles, found)]


def drawn_children(
    children: NDArray[np.int64],
    rows: NDArray[np.int64],
    common: NDArray[np.float32],
    slopes: NDArray[np.float32],
    levels: NDArray[np.float32],
    u: NDArray[np.float64],
    quantiles: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the children with Φ(⟨slope, factors of the sample⟩ + level) > u: the places of their parents, and which they are.

    Parameters
    ----------
    children, rows
        Children of active parents, -1 where there is none, shape (parent, place), and the sample of each parent, shape (parent,).
    common, slopes, levels
        The factors of every sample, and what z is made of, shapes (sample, rank), (feature, rank) and (feature,).
    u
        Uniform numbers, shape (parent, place).
    quantiles
        Φ⁻¹ of 0/256 to 256/256, shape (257,).
    """
    loops = _loops()
    if loops is None:
        z = np.einsum("pcr,pr->pc", slopes[children], common[rows]) + levels[children]
        above, place = np.nonzero((ndtr(z.astype(np.float64)) > u) & (children >= 0))
        return above, children[above, place]
    above, drawn = np.empty((2, children.size), dtype=np.int64)
    count = loops.list_drawn(children, rows, common, slopes, levels, u, quantiles, above, drawn)
    return above[:count], drawn[:count]


def _loops() -> Any:
    try:
        from lrbench.law import loop  # compiles on first use
    except ImportError:  # no numba: slower, and the same places
        return None
    return loop
