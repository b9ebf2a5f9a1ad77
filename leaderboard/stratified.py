"""The test that every claim on two methods rests on: paired on the world, stratified by task, families weighing equally.

Both methods of a pair were run on the same (task, seed), hence on the same world. A task is a stratum: the seeds' differences vary about
the task's own mean, and how far tasks lie apart is no noise. The mean is over the tasks of a family, then over families; its variance
is the sum of the strata's, and the degrees of freedom are Welch's and Satterthwaite's (Satterthwaite 1946, doi:10.2307/3002019). Holm's
correction (1979) bounds the chance of one false claim or more among many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

from lrbench.pages.interval import LEVEL

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 1.0 - LEVEL
Strata = Mapping[tuple[str, str], Mapping[tuple[int, str], float]]  # (family, task) → (seed, world) → score


@dataclass(frozen=True)
class Difference:
    """A paired difference of two methods.

    Attributes
    ----------
    mean
        Over families; NaN where they share no cell.
    error, freedom
        Standard error of the mean and its degrees of freedom; NaN where a stratum has one pair, which tells nothing about noise.
    pairs
        Number of (task, seed) cells that both have.
    """

    mean: float
    error: float
    freedom: float
    pairs: int

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; NaN where no test is possible."""
        from scipy.special import stdtr

        if self.error == 0.0:  # the same difference on every seed
            return 1.0 if self.mean == 0.0 else 0.0
        return float(2.0 * stdtr(self.freedom, -abs(self.mean) / self.error))

    @property
    def half(self) -> float:
        """Half width of the 95% interval, which no correction widens; NaN where no test is possible."""
        from scipy.special import stdtrit

        return 0.0 if self.error == 0.0 else float(stdtrit(self.freedom, 0.5 + LEVEL / 2) * self.error)


def scores_of(cells: pd.DataFrame) -> dict[str, dict[tuple[str, str], dict[tuple[int, str], float]]]:
    """Return each method's known headlines, task by task and world by world."""
    found: dict[str, dict[tuple[str, str], dict[tuple[int, str], float]]] = {}
    names = ("method", "family", "task", "seed", "world", "headline")
    for method, family, task, seed, world, score in zip(*(cells[name] for name in names), strict=True):
        if not math.isnan(score):
            found.setdefault(str(method), {}).setdefault((str(family), str(task)), {})[int(seed), str(world)] = score
    return found


def difference(a: Strata, b: Strata, families: Iterable[str] | None = None) -> Difference:
    """Return a − b over the cells that both have.

    Parameters
    ----------
    a, b
        One method's part of `scores_of`.
    families
        The families to look at; all by default.

    Examples
    --------
    >>> a = {("noise", "noise/1"): {(0, "w"): 0.5, (1, "v"): 0.7}}
    >>> b = {("noise", "noise/1"): {(0, "w"): 0.3, (1, "v"): 0.4}}
    >>> found = difference(a, b)
    >>> f"{found.mean:.2f} ± {found.error:.2f}, {found.freedom:g} degree of freedom"
    '0.25 ± 0.05, 1 degree of freedom'
    """
    wanted = None if families is None else set(families)
    by_family: dict[str, list[list[float]]] = {}
    for family, task in a.keys() & b.keys():
        first, second = a[family, task], b[family, task]
        shared = [first[cell] - second[cell] for cell in sorted(first.keys() & second.keys())]
        if shared and (wanted is None or family in wanted):
            by_family.setdefault(family, []).append(shared)
    if not by_family:
        return Difference(math.nan, math.nan, math.nan, 0)
    strata = [(values, 1.0 / len(tasks) / len(by_family)) for tasks in by_family.values() for values in tasks]
    mean = math.fsum(weight * fmean(values) for values, weight in strata)
    pairs = sum(len(values) for values, _ in strata)
    if any(len(values) < 2 for values, _ in strata):
        return Difference(mean, math.nan, math.nan, pairs)
    parts = [(weight**2 * variance(values) / len(values), len(values) - 1) for values, weight in strata]
    whole = math.fsum(part for part, _ in parts)
    squares = math.fsum(part**2 / freedom for part, freedom in parts)
    return Difference(mean, math.sqrt(whole), whole**2 / squares if squares else math.inf, pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the same order; NaN stays NaN and does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, least = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[place] = least
    return corrected
