"""Ranks as ranges: which methods a table can tell apart, and no order among those that it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from lrbench.metric_table import METRICS

from .stratified import ALPHA, difference, holm, scores_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST_SEEDS = 2  # with one seed nothing tells a difference from noise


def rank_ranges(cells: pd.DataFrame, tasks: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return each method's first and last possible rank among methods of one kind.

    A method is ahead of another if it was scored on more tasks; or on as many, the paired difference is significant after Holm's
    correction over all such pairs, and it exceeds the headline's tolerance. The range goes from 1 + the number of methods ahead
    to the number of methods − the number of those behind.

    Parameters
    ----------
    cells
        The cells that count, of all methods and seeds.
    tasks
        Method → number of its tasks that count. A method with fewer than `FEWEST_SEEDS` seeds has no range and takes no other's place.
    """
    seeds = cells.groupby("method")["seed"].nunique()
    methods = sorted(method for method in tasks if seeds.get(method, 0) >= FEWEST_SEEDS)
    scores = scores_of(cells)
    tested = [pair for pair in combinations(methods, 2) if tasks[pair[0]] == tasks[pair[1]]]
    found = [difference(scores[a], scores[b]) for a, b in tested]
    beyond = {}
    for pair, one, p in zip(tested, found, holm([one.p for one in found]), strict=True):
        beyond[pair] = one.mean if p <= ALPHA and abs(one.mean) > METRICS["headline"].tolerance else 0.0

    def ahead(a: str, b: str) -> bool:
        if tasks[a] != tasks[b]:
            return tasks[a] > tasks[b]
        return (beyond[a, b] if a < b else -beyond[b, a]) > 0.0

    return {
        own: (
            1 + sum(ahead(other, own) for other in methods if other != own),
            len(methods) - sum(ahead(own, other) for other in methods if other != own),
        )
        for own in methods
    }
