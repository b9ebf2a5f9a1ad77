"""Ranks as ranges: which methods a table can tell apart, and no order among those that it cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from lrbench.metric_table import METRICS

from .stratified import ALPHA, difference, holm, scores_of

if TYPE_CHECKING:
    import pandas as pd

FEWEST_SEEDS = (
    2  # with one seed nothing tells a difference from noise: such a method has no rank, and takes no other's place
)


def methods_ahead(cells: pd.DataFrame, tasks: Mapping[str, int]) -> set[tuple[str, str]]:
    """Return the pairs (front, behind) of methods of one kind that can be told apart.

    A method is ahead of another if it was scored on more tasks; or on as many, the paired difference is significant after Holm's
    correction over all such pairs, and it exceeds the headline's tolerance.

    Parameters
    ----------
    cells
        The cells that count, of all methods and seeds.
    tasks
        Method → number of its tasks that count.
    """
    scores, found = scores_of(cells), set()
    tested = []
    for a, b in combinations(sorted(tasks), 2):
        if tasks[a] == tasks[b]:
            tested.append((a, b, difference(scores[a], scores[b])))
        else:
            found.add((a, b) if tasks[a] > tasks[b] else (b, a))
    for (a, b, one), p in zip(tested, holm([one.p for _, _, one in tested]), strict=True):
        if p <= ALPHA and abs(one.mean) > METRICS["headline"].tolerance:
            found.add((a, b) if one.mean > 0 else (b, a))
    return found


def rank_range(method: str, count: int, ahead: Collection[tuple[str, str]]) -> tuple[int, int]:
    """Return the first and the last rank that a method may have: 1 + the methods ahead, and all ``count`` of them − those behind.

    Examples
    --------
    >>> rank_range("b", 4, {("a", "b"), ("a", "c")})
    (2, 4)
    """
    return 1 + sum(behind == method for _, behind in ahead), count - sum(front == method for front, _ in ahead)
