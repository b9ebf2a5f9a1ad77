"""The paired test behind `compare`: the seeds of a task tell the noise, the tasks are what was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_FREEDOM = 3  # below this many degrees of freedom hardly any effect could pass the test


@dataclass(frozen=True)
class Paired:
    """What paired differences say.

    Attributes
    ----------
    effect
        Mean over tasks of the mean difference over seeds.
    pairs
        Number of differences.
    p_below, p_above
        One-sided p-values of "the true effect is not below (above) 0"; None with too few seeds to test.
    """

    effect: float
    pairs: int
    p_below: float | None
    p_above: float | None


def paired_test(differences: Mapping[str, Sequence[float]]) -> Paired:
    """Test whether the mean over tasks of paired differences is below or above zero.

    A t-test in which every task is a stratum. Its error comes from how far the seeds of one task disagree, never from
    how far tasks disagree: an effect that hits one family only is an effect, not noise. The degrees of freedom follow
    Welch and Satterthwaite, without bias when tasks are equally noisy, and down to one task's when one task makes all
    of the noise. With one task this is the paired t-test over seeds.

    Parameters
    ----------
    differences
        Task → differences head − base, one a seed; every task has at least one, those with one add no knowledge of
        the noise.
    """
    from scipy.special import stdtr

    strata = [list(values) for values in differences.values()]
    means = [math.fsum(values) / len(values) for values in strata]
    effect = math.fsum(means) / len(means)
    pairs = sum(map(len, strata))
    squares = [math.fsum((v - mean) ** 2 for v in values) for values, mean in zip(strata, means, strict=True)]
    freedom = [len(values) - 1 for values in strata]
    if sum(freedom) < MIN_FREEDOM:
        return Paired(effect, pairs, None, None)
    total = math.fsum(squares)
    error = math.sqrt(total / sum(freedom) * math.fsum(1 / len(values) for values in strata)) / len(strata)
    if error == 0.0:
        return Paired(effect, pairs, 0.0 if effect < 0 else 1.0, 0.0 if effect > 0 else 1.0)
    bias_free = total**2 / math.fsum(ss**2 / (n + 2) for ss, n in zip(squares, freedom, strict=True)) - 2
    degrees = min(max(bias_free, 1.0), sum(freedom))
    return Paired(effect, pairs, *(float(stdtr(degrees, sign * effect / error)) for sign in (1, -1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: at most ``alpha`` of all families hold a false one below it."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted
