"""The compiled loop of `lrbench.law.hits`."""

from __future__ import annotations

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
