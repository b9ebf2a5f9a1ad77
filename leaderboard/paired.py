"""The paired test behind `compare`: the seeds of a task tell the noise, the tasks are what was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_FREEDOM = 3  # with fewer degrees of freedom hardly any effect could pass the test


@dataclass(frozen=True)
class Paired:
    """What paired differences say.

    Attributes
    ----------
    effect
        Mean over tasks of the mean difference over seeds.
    by_task
        Task → mean difference over seeds.
    pairs
        Number of differences.
    p_below, p_above
        One-sided p-values against "the true effect is 0", small if it is below (above) 0; None with too few seeds.
    p_task
        Task → a rough one-sided p-value of its mean alone, in the direction it has; empty with too few seeds.
    """

    effect: float
    by_task: dict[str, float]
    pairs: int
    p_below: float | None
    p_above: float | None
    p_task: dict[str, float]


def paired_test(differences: Mapping[str, Sequence[float]]) -> Paired:
    """Test whether the mean over tasks of paired differences is below or above zero.

    A t-test in which every task is a stratum. Its error comes from how far the seeds of one task disagree, pooled over
    tasks, never from how far tasks disagree: an effect that hits one task only is an effect, not noise. It has one
    degree of freedom for every seed of a task beyond the first. With one task this is the paired t-test over seeds.

    Parameters
    ----------
    differences
        Task → differences head − base, one per seed, at least one.
    """
    from scipy.special import stdtr

    means = {task: math.fsum(values) / len(values) for task, values in differences.items()}
    effect = math.fsum(means.values()) / len(means)
    pairs = sum(map(len, differences.values()))
    freedom = pairs - len(means)
    if freedom < MIN_FREEDOM:
        return Paired(effect=effect, by_task=means, pairs=pairs, p_below=None, p_above=None, p_task={})

    def p_value(distance: float, error: float) -> float:
        """The chance of a value this far above zero; without noise there is none."""
        return float(stdtr(freedom, -distance / error)) if error else float(distance <= 0)

    squares = {task: math.fsum((v - means[task]) ** 2 for v in values) for task, values in differences.items()}
    variance = math.fsum(squares.values()) / freedom
    error = math.sqrt(variance * math.fsum(1 / len(v) for v in differences.values())) / len(means)
    alone = {}
    for task, values in differences.items():
        own = squares[task] / (len(values) - 1) if len(values) > 1 else 0.0
        alone[task] = p_value(abs(means[task]), math.sqrt(max(variance, own) / len(values)))
    return Paired(
        effect=effect,
        by_task=means,
        pairs=pairs,
        p_below=p_value(-effect, error),
        p_above=p_value(effect, error),
        p_task=alone,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: the chance that a false one is below alpha is at most alpha."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted
