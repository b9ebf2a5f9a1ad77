"""Where a method breaks: one seed's bracket along an axis, and all seeds pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrbench.ladder.axes import Axis

HALF = 0.5
LACKING = -math.inf  # the score of a method that cannot run at a rung: it found nothing there
Points = Mapping[int, float]  # rung → score of one method with one seed


@dataclass(frozen=True)
class Break:
    """Where one seed breaks.

    Parameters
    ----------
    hardness
        Of the level at which the score falls to `HALF`; of the axis' first or last level where it does so before or beyond.
    side
        -1: below one half at the easiest level already; 1: not even at the hardest; 0: in between.
    """

    hardness: float
    side: int


@dataclass(frozen=True)
class Pooled:
    """Where a method breaks, over seeds.

    Parameters
    ----------
    hardness
        Mean over seeds, of the logarithm that `Axis.hardness` is; those beyond an end of the axis count as that end.
    half
        Half the width of the mean's interval, NaN where a seed is beyond an end or there is one seed only.
    before, beyond
        How many seeds broke before the easiest level, and how many not even at the hardest.
    seeds
        How many there are.
    """

    hardness: float
    half: float
    before: int
    beyond: int
    seeds: int

    @property
    def bound(self) -> bool:
        """Whether the level is one end of the axis for at least one seed, so that the mean is a bound."""
        return self.before + self.beyond > 0


def bracket(points: Points) -> tuple[int | None, int | None]:
    """Return the last rung before the first one at which less than half is found, and that rung; None for one that is not there.

    Examples
    --------
    >>> bracket({0: 0.9, 8: 0.7, 16: 0.3, 24: 0.6})
    (8, 16)
    """
    last: int | None = None
    for rung in sorted(points):
        if points[rung] < HALF:
            return last, rung
        last = rung
    return last, None


def next_rung(points: Points) -> int | None:
    """Return the rung in the middle of the bracket, None where there is nothing to halve."""
    low, high = bracket(points)
    if low is None or high is None or high - low < 2:
        return None
    return (low + high) // 2


def break_of(axis: Axis, points: Points) -> Break | None:
    """Return where one seed breaks, between two rungs on the straight line from score to score; None without a point."""
    low, high = bracket(points)
    if high is None:
        return None if low is None else Break(axis.hardnesses[low], 1)
    if low is None:
        return Break(axis.hardnesses[high], -1)
    share = 0.5 if points[high] == LACKING else (points[low] - HALF) / (points[low] - points[high])
    return Break(axis.hardnesses[low] + share * (axis.hardnesses[high] - axis.hardnesses[low]), 0)


def pooled(breaks: Sequence[Break]) -> Pooled | None:
    """Return the mean over seeds, None without one."""
    from lrbench.pages.interval import interval

    if not breaks:
        return None
    seen = interval(each.hardness for each in breaks)
    before, beyond = (sum(each.side == side for each in breaks) for side in (-1, 1))
    return Pooled(seen.mean, math.nan if before + beyond else seen.half, before, beyond, len(breaks))
