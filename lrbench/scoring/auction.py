"""Prices at which the rows of a crowded assignment want different columns: an auction with scaled increments.

Where many rows want the same few columns by almost the same margins, bids that only make a row's best column level with its second
best raise prices in tiny steps, without end in sight. Bertsekas (1988): every bid raises its price by a further ε, so nobody bids for
long; the auction is held again with a smaller ε, each time from the prices that the last one left. The prices end within ε of
optimal ones. They are a start for `lrbench.scoring.assignment`, which is exact from any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrbench.jit import loop_compiler

FIRST, LAST = 2.0**-4, 2.0**-30  # ε of the first and of the last auction, as shares of the scores' range
SHRINK = 6.0  # ε of an auction over that of the next

_compiled = loop_compiler(fastmath={"reassoc", "contract", "nsz"})  # lets the largest offer be searched for by vectors


def auction_prices(scores: NDArray[Any], kind_of: NDArray[Any]) -> NDArray[Any]:
    """Return a price per column at which every row can have a column whose offer, score minus price, is within ε of its best.

    Parameters
    ----------
    scores
        What each kind of row scores with each column.
    kind_of
        The kind of every row; there are as many rows as columns.
    """
    prices = np.zeros(scores.shape[1])
    spread = float(scores.max()) - float(scores.min())
    epsilon, last = FIRST * spread, LAST * spread
    while spread > 0:
        _hold(scores, kind_of, prices, epsilon)
        if epsilon <= last:
            break
        epsilon = max(epsilon / SHRINK, last)
    return prices


@_compiled
def _hold(scores: NDArray[Any], kind_of: NDArray[Any], prices: NDArray[Any], epsilon: float) -> None:
    """Let rows bid until every row holds a column, and raise the prices in place."""
    offers = np.empty_like(prices)
    row_of = np.full(len(prices), -1)
    waiting = [row for row in range(len(kind_of))]
    while waiting:
        row = waiting.pop()
        own, first, second, best = scores[kind_of[row]], -np.inf, -np.inf, 0
        for column in range(len(offers)):
            offers[column] = own[column] - prices[column]
        for column in range(len(offers)):
            first = max(first, offers[column])
        while offers[best] != first:
            best += 1
        offers[best] = -np.inf
        for column in range(len(offers)):
            second = max(second, offers[column])
        prices[best] += epsilon + (first - second if second > -np.inf else 0.0)
        if row_of[best] >= 0:
            waiting.append(row_of[best])
        row_of[best] = row
