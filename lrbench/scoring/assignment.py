"""One-to-one assignment of the largest summed score for large problems: shortest augmenting paths over short lists.

Jonker & Volgenant (1987): prices, a phase of bids, then a shortest path for every row that is still free. A dense solver looks at
all columns of every row that it meets; here a row keeps the `KEPT` best of them and an upper bound on what the others offer, and is
read as a whole only when that bound could matter. Prices only rise, so a bound stays one: the result is the exact optimum.

The rows of a collapsed dictionary all want the same columns, and no list is long enough. When the paths take more reading than
`PATIENCE`, the search starts anew from prices that an auction has found, and with rows that are equal read once. That search is as exact.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lrbench.jit import loop_compiler
from lrbench.scoring.auction import auction_prices

KEPT = 64  # columns that a row keeps at hand
BLOCK = 1024  # rows whose best columns are searched at a time
BIDS = 8  # bids per row before paths are searched: close bids could go on for very long
PATIENCE = (
    128  # lists per row that the paths may read before the auction; 10 to 25 serve where rows want different columns
)


_compiled = loop_compiler()


def assign_large(
    scores: Float[Tensor, "row column"], kept: int = KEPT, patience: int = PATIENCE
) -> Int[Tensor, " row"]:
    """Return every row's column in a one-to-one assignment of the largest summed score.

    Parameters
    ----------
    scores
        Finite scores of no more rows than columns; they are read in place, whatever their strides.
    kept
        Columns that a row keeps at hand: more cost memory, fewer cost readings of whole rows.
    patience
        Lists per row that are read before prices are sought by an auction.
    """
    kept = min(kept, scores.shape[1])
    best = [scores[first : first + BLOCK].topk(kept, dim=1) for first in range(0, len(scores), BLOCK)]
    lists = torch.cat([found.indices for found in best]).numpy()
    bounds = torch.cat([found.values[:, -1] for found in best]).double().numpy()
    if kept == scores.shape[1]:
        bounds[:] = -np.inf  # nothing is off the list
    prices, kind_of = np.zeros(scores.shape[1]), np.arange(len(scores))
    column_of = _solve(scores.numpy(), kind_of, lists, bounds, prices, patience * lists.size)
    if len(column_of) == 0:
        column_of = _assign_crowded(scores, kept)
    found: Int[Tensor, " row"] = torch.from_numpy(column_of)
    return found


def _assign_crowded(scores: Float[Tensor, "row column"], kept: int) -> NDArray[Any]:
    """Return the column of every row, from an auction's prices.

    Rows that offer nothing are added until there are as many as columns: then every column is taken, and any prices are a start.
    """
    n_rows, n_columns = scores.shape
    rows = scores.contiguous().numpy()
    number: dict[bytes, int] = {}
    seen = [number.setdefault(blake2b(row, digest_size=16).digest(), len(number)) for row in rows]
    kind_of = np.array(seen + [len(number)] * (n_columns - n_rows))
    if len(number) < n_rows or n_rows < n_columns:
        _, first = np.unique(seen, return_index=True)
        rows = np.concatenate([rows[first], np.zeros((int(n_rows < n_columns), n_columns), rows.dtype)])
    prices = auction_prices(rows, kind_of)
    lists, bounds = np.empty((len(rows), kept), np.int64), np.full(len(rows), -np.inf)
    for kind, row in enumerate(rows):
        lists[kind] = np.argpartition(row - prices, n_columns - kept)[n_columns - kept :]
        if kept < n_columns:
            bounds[kind] = (row - prices)[lists[kind]].min()
    column_of: NDArray[Any] = _solve(rows, kind_of, lists, bounds, prices, -1)
    return column_of[:n_rows]


@_compiled
def _solve(
    scores: NDArray[Any],
    kind_of: NDArray[Any],
    lists: NDArray[Any],
    bounds: NDArray[Any],
    prices: NDArray[Any],
    patience: int,
) -> NDArray[Any]:
    """Return the column of every row, or nothing if the paths read more than ``patience`` numbers (-1: no limit).

    Rows of a kind have the same scores. ``lists`` holds columns of every kind, ``bounds`` the most that any other column offers it,
    score minus price; both are kept up to date in place, as are the prices. A row's profit is the offer of its column; no offer is
    larger (complementary slackness). A column that stays free must cost nothing: prices start at 0 unless all are taken.
    """
    n_rows, n_columns = len(kind_of), len(prices)
    column_of = np.full(n_rows, -1)
    row_of = np.full(n_columns, -1)
    _bid(scores, kind_of, lists, bounds, prices, column_of, row_of)
    distance = np.full(n_columns, np.inf)
    reached_from = np.full(n_columns, -1)
    done = np.zeros(n_columns, dtype=np.bool_)
    scanned_for = np.full(len(scores), -1)
    numbers_read = 0
    for row in range(n_rows):
        if column_of[row] < 0:
            free, cost = _search(
                row,
                scores,
                kind_of,
                lists,
                bounds,
                prices,
                column_of,
                row_of,
                distance,
                reached_from,
                done,
                scanned_for,
            )
            while free >= 0:  # along the path every row passes to the column that it reached
                holder = reached_from[free]
                column_of[holder], free = free, column_of[holder]
                row_of[column_of[holder]] = holder
            numbers_read += cost
            if 0 <= patience < numbers_read:
                return column_of[:0]
    return column_of


@_compiled
def _bid(
    scores: NDArray[Any],
    kind_of: NDArray[Any],
    lists: NDArray[Any],
    bounds: NDArray[Any],
    prices: NDArray[Any],
    column_of: NDArray[Any],
    row_of: NDArray[Any],
) -> None:
    """Let every free row take its best column at the price that makes it level with the second best, whoever held it."""
    waiting = [row for row in range(len(kind_of) - 1, -1, -1)]
    for _ in range(BIDS * len(kind_of)):
        if not waiting:
            return
        row = waiting.pop()
        kind = kind_of[row]
        first, second, column = _two_best(scores[kind], lists[kind], prices)
        if second < bounds[kind]:
            bounds[kind] = _reread(scores[kind], lists[kind], prices)
            first, second, column = _two_best(scores[kind], lists[kind], prices)
        holder = row_of[column]
        if holder >= 0 and first == second:
            continue  # no price would settle it: a path will
        if holder >= 0:
            column_of[holder] = -1
            waiting.append(holder)
        rival = max(second, bounds[kind])
        if rival > -np.inf:  # there is another column
            prices[column] += first - rival
        row_of[column] = row
        column_of[row] = column


@_compiled
def _two_best(scores: NDArray[Any], columns: NDArray[Any], prices: NDArray[Any]) -> tuple[float, float, int]:
    """Return the best and the second best offer among a row's listed columns, and the column of the best."""
    first, second, best = -np.inf, -np.inf, -1
    for column in columns:
        offer = scores[column] - prices[column]
        if offer > first:
            first, second, best = offer, first, column
        elif offer > second:
            second = offer
    return first, second, best


@_compiled
def _reread(scores: NDArray[Any], columns: NDArray[Any], prices: NDArray[Any]) -> float:
    """Put a row's best columns at the present prices into ``columns`` and return a bound on the others."""
    offers = scores - prices
    place = len(offers) - len(columns)
    least = float(np.partition(offers, place)[place])
    found = 0
    for column in range(len(offers)):
        if offers[column] > least:
            columns[found] = column
            found += 1
    for column in range(len(offers)):
        if found < len(columns) and offers[column] == least:
            columns[found] = column
            found += 1
    return least


@_compiled
def _search(
    start: int,
    scores: NDArray[Any],
    kind_of: NDArray[Any],
    lists: NDArray[Any],
    bounds: NDArray[Any],
    prices: NDArray[Any],
    column_of: NDArray[Any],
    row_of: NDArray[Any],
    distance: NDArray[Any],
    reached_from: NDArray[Any],
    done: NDArray[Any],
    scanned_for: NDArray[Any],
) -> tuple[int, int]:
    """Find the free column nearest to a row and raise the prices on the way there (Dijkstra's algorithm).

    Returns the column, and how many numbers were read. The way from a row to a column is as long as what the row loses by it: its
    profit less the column's offer. Besides columns the heap holds rows, numbered from ``n_columns``, at the distance at which a
    column off their list could lie. Rows of a kind have the same profit: the one that is met first is the nearest to every column.
    """
    n_columns = len(prices)
    row, level = start, 0.0  # level: distance of the row plus its profit; the start's profit does not matter
    heap = [(level - bounds[kind_of[row]], n_columns + row)]
    scanned_for[kind_of[row]] = start
    touched, scanned = [0], [0]
    touched.pop()
    scanned.pop()
    nearest, free, numbers_read = np.inf, -1, 0
    whole = False
    while row >= 0:
        kind, width = kind_of[row], n_columns if whole else lists.shape[1]
        numbers_read += width
        for place in range(width):
            column = place if whole else lists[kind, place]
            reach = level - scores[kind, column] + prices[column]
            if done[column] or reach >= nearest or reach >= distance[column]:
                continue
            distance[column] = reach
            reached_from[column] = row
            touched.append(column)
            if row_of[column] < 0:
                nearest, free = reach, column
            else:
                heappush(heap, (reach, column))
        row = -1
        while row < 0 and heap and heap[0][0] < nearest:
            reach, column = heappop(heap)
            if column >= n_columns:
                row, whole = column - n_columns, True
                kind = kind_of[row]
                level = reach + bounds[kind]
                bounds[kind] = _reread(scores[kind], lists[kind], prices)
            elif not done[column]:  # else it was reached on a shorter way
                done[column] = True
                scanned.append(column)
                holder = row_of[column]
                if scanned_for[kind_of[holder]] != start:
                    scanned_for[kind_of[holder]] = start
                    row, whole, kind = holder, False, kind_of[holder]
                    level = reach + scores[kind, column] - prices[column]
                    heappush(heap, (level - bounds[kind], n_columns + row))
    for column in scanned:
        prices[column] += nearest - distance[column]
        done[column] = False
    for column in touched:
        distance[column] = np.inf
    return free, numbers_read
