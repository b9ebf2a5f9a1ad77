"""The compiled loops of `lrbench.law.hits`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lrbench.jit import loop_compiler


@loop_compiler()
def list_above(
    z: NDArray[np.float32], first: NDArray[np.uint8], quantiles: NDArray[np.float32], found: NDArray[np.int32]
) -> int:
    """List the places where ``z > quantiles[first]`` and return how many there are."""
    count = 0
    for place in range(len(z)):
        if z[place] > quantiles[first[place]]:
            found[count] = place
            count += 1
    return count


@loop_compiler(fastmath={"reassoc", "contract"})
def list_drawn(
    children: NDArray[np.int64],
    rows: NDArray[np.int64],
    common: NDArray[np.float32],
    slopes: NDArray[np.float32],
    levels: NDArray[np.float32],
    u: NDArray[np.float64],
    quantiles: NDArray[np.float64],
    above: NDArray[np.int64],
    drawn: NDArray[np.int64],
) -> int:
    """List the children that are drawn, with the places of their parents, and return how many there are."""
    count = 0
    for parent in range(len(children)):
        factors = common[rows[parent]]
        for place in range(children.shape[1]):
            child = children[parent, place]
            if child < 0:
                continue
            z, slope = levels[child], slopes[child]
            for k in range(len(factors)):
                z += slope[k] * factors[k]
            byte = int(256.0 * u[parent, place])  # which mostly decides
            if z > quantiles[byte + 1] or (
                z > quantiles[byte] and 0.5 * math.erfc(-z / math.sqrt(2.0)) > u[parent, place]
            ):
                above[count], drawn[count] = parent, child
                count += 1
    return count
