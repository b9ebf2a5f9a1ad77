"""Paired differences of one score: their mean, and how far noise alone may throw it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, quantiles

POWER = 0.95  # the chance with which a drop that counts has to be found
PRIOR = 5  # degrees of freedom that the assumed noise counts for beside the measured one
QUARTILE = 0.6745  # the upper quartile of a normal law, in standard deviations
ENOUGH = 4  # differences from which on an upper quartile says something


Weights = Mapping[str, float]  # task → its weight in a mean


@dataclass(frozen=True)
class Paired:
    """Differences head − base of one score, signed so that more is better, and their noise.

    Attributes
    ----------
    by_task
        Task → mean difference over seeds.
    seeds
        Task → number of differences.
    noise
        Task → standard deviation of one difference between two runs of the same thing, as far as it is assumed or known.
    freedom
        Degrees of freedom of the noise; infinite where it is the assumed one.
    """

    by_task: dict[str, float]
    seeds: dict[str, int]
    noise: dict[str, float]
    freedom: float

    def effect(self, weights: Weights) -> float:
        """Return the weighted mean over tasks of the mean difference over seeds."""
        return math.fsum(weight * self.by_task[task] for task, weight in weights.items())

    def limit(self, alpha: float, weights: Weights) -> float:
        """Return the loss that noise exceeds with a chance of ``alpha``, of the effect with these weights."""
        error = math.fsum((weight * self.noise[task]) ** 2 / self.seeds[task] for task, weight in weights.items())
        return _quantile(1 - alpha, self.freedom) * math.sqrt(error)

    def with_noise_of(self, some: Paired) -> Paired:
        """Return these differences with the noise that some of the tasks show by themselves, where that is more."""
        return replace(self, noise=self.noise | {task: max(self.noise[task], own) for task, own in some.noise.items()})

    def seeds_for(self, loss: float, alpha: float, weights: Weights) -> int:
        """Return how many seeds per task find a true loss with a chance of `POWER`."""
        width = _quantile(1 - alpha, self.freedom) + _quantile(POWER, math.inf)
        return math.ceil(
            math.fsum((weight * self.noise[task]) ** 2 for task, weight in weights.items()) * (width / loss) ** 2
        )


def equal_weights(tasks: Sequence[str], families: Mapping[str, str]) -> dict[str, float]:
    """Return each task's weight in a mean in which families weigh equally, and the tasks of a family too.

    Examples
    --------
    >>> equal_weights(["a/x", "a/y", "b/z"], {"a/x": "a", "a/y": "a", "b/z": "b"})
    {'a/x': 0.25, 'a/y': 0.25, 'b/z': 0.5}
    """
    sizes = Counter(families[task] for task in tasks)
    return {task: 1 / (len(sizes) * sizes[families[task]]) for task in tasks}


def paired(differences: Mapping[str, Sequence[float]], assumed: Mapping[str, float]) -> Paired:
    """Weigh paired differences.

    The noise is the assumed one, unless the differences show more: from how far the seeds of one task disagree, pooled over tasks.
    How far tasks disagree does not count: what hits one task only is an effect, not noise. With one seed per task the gains tell:
    noise throws scores up as far as down, so their upper quartile bounds it, and a loss never hides itself.

    Parameters
    ----------
    differences
        Task → differences head − base, one per seed, at least one; signed so that more is better.
    assumed
        Task → standard deviation that a difference of two runs of the same thing has at least, above 0.
    """
    means = {task: fmean(values) for task, values in differences.items()}
    seeds = {task: len(values) for task, values in differences.items()}
    freedom = sum(seeds.values()) - len(seeds)
    factor, counted = 1.0, math.inf
    if freedom:
        squares = math.fsum(
            ((value - means[task]) / assumed[task]) ** 2 for task, values in differences.items() for value in values
        )
        if squares > freedom:
            factor, counted = math.sqrt((PRIOR + squares) / (PRIOR + freedom)), PRIOR + freedom
    elif len(means) >= ENOUGH:
        gains = [mean / assumed[task] for task, mean in means.items()]
        factor = max(1.0, quantiles(gains, n=4, method="inclusive")[2] / QUARTILE)
    noise = {task: factor * assumed[task] for task in means}
    return Paired(by_task=means, seeds=seeds, noise=noise, freedom=counted)


@cache
def _quantile(share: float, freedom: float) -> float:
    """The quantile of Student's law, or of the normal one for infinitely many degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(share) if math.isinf(freedom) else stdtrit(freedom, share))
