"""A mean over seeds, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with the half width of its Student t interval.

    Parameters
    ----------
    mean
        NaN without a value.
    half
        NaN for fewer than two values: nothing tells how far they would lie apart.
    count
        Number of values.
    """

    mean: float
    half: float
    count: int


def interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Return the interval of the values that are known (not NaN), with count − 1 degrees of freedom.

    Examples
    --------
    >>> found = interval([1.0, 2.0, 3.0])
    >>> f"{found.mean:.3f} ± {found.half:.3f}"
    '2.000 ± 2.484'
    """
    import numpy as np
    from scipy.special import stdtrit

    sample = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if sample.size < 2:
        return Interval(float(sample[0]) if sample.size else math.nan, math.nan, sample.size)
    half = stdtrit(sample.size - 1, 0.5 + level / 2) * sample.std(ddof=1) / math.sqrt(sample.size)
    return Interval(float(sample.mean()), float(half), sample.size)
