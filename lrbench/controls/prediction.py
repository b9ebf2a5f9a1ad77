"""Whether the synthetic board predicts the real one: the rank correlation of methods' scores between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrbench.controls.seen import mean_score, methods_in, of
from lrbench.record import Record

DRAWS = 2000  # of the bootstrap
LEVEL = 0.95
FEWEST = 4  # methods with their twins, or no correlation means anything


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over methods.

    Parameters
    ----------
    value
        NaN for fewer than four methods, twins not counted.
    low, high
        The ends of a 95% interval by the bootstrap over methods: each is drawn together with its twins, which share its fate.
    methods
        How many there were, twins counted.
    """

    value: float
    low: float
    high: float
    methods: int


def base_of(method: str) -> str:
    """Return the method that a twin is one of.

    Examples
    --------
    >>> base_of("topk_sae+anchored")
    'topk_sae'
    """
    return method.partition("+")[0]


def real_scores(records: Sequence[Record]) -> dict[str, float]:
    """Return method → headline on one task, the mean over seeds; references are left out."""
    ranked = [record for record in records if record.kind != "reference"]
    means = {method: mean_score(of(ranked, method), "headline") for method in methods_in(ranked)}
    return {method: value for method, value in means.items() if not math.isnan(value)}


def correlation(first: Mapping[str, float], second: Mapping[str, float]) -> Correlation:
    """Return the rank correlation over the methods that both have.

    Examples
    --------
    >>> one = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    >>> round(correlation(one, {**one, "e": 9.0}).value, 6)
    1.0
    """
    import numpy as np
    from scipy.stats import spearmanr

    names = sorted(first.keys() & second.keys())
    families: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        families.setdefault(base_of(name), []).append(place)
    if len(families) < FEWEST:
        return Correlation(math.nan, math.nan, math.nan, len(names))
    pairs = np.array([[first[name], second[name]] for name in names])

    def spearman(some: Any) -> float:
        if np.ptp(some, axis=0).min() == 0:  # one method drawn over and over: it has no ranks
            return math.nan
        return float(spearmanr(some[:, 0], some[:, 1]).statistic)

    rng, whole = np.random.default_rng(0), [*families.values()]
    drawn = [
        spearman(pairs[[place for chosen in rng.integers(len(whole), size=len(whole)) for place in whole[chosen]]])
        for _ in range(DRAWS)
    ]
    low, high = np.nanquantile(np.round(drawn, 12), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(round(spearman(pairs), 12), float(low), float(high), len(names))
