"""One-to-one assignment of the largest summed score for large problems: shortest augmenting paths over short lists.

Jonker & Volgenant (1987): prices, a phase of bids, then a shortest path for every row that is still free. A dense solver looks at
all columns of every row that it meets; here a row keeps the `KEPT` best of them and an upper bound on what the others offer, and is
read as a whole only when that bound could matter. Prices only rise, so a bound stays one: the result is the exact optimum.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lrbench.jit import loop_compiler

KEPT = 64  # columns that a row keeps at hand
BLOCK = 1024  # rows whose best columns are searched at a time
BIDS = 8  # bids per row before paths are searched: close bids could go on for very long


_compiled = loop_compiler()


def assign_large(scores: Float[Tensor, "row column"], kept: int = KEPT) -> Int[Tensor, " row"]:
    """Return every row's column in a one-to-one assignment of the largest summed score.

    Parameters
    ----------
    scores
        Finite scores of no more rows than columns; they are read in place, whatever their strides.
    kept
        Columns that a row keeps at hand: more cost memory, fewer cost readings of whole rows.
    """
    kept = min(kept, scores.shape[1])
    best = [scores[first : first + BLOCK].topk(kept, dim=1) for first in range(0, len(scores), BLOCK)]
    lists = torch.cat([found.indices for found in best]).numpy()
    bounds = torch.cat([found.values[:, -1] for found in best]).double().numpy()
    if kept == scores.shape[1]:
        bounds[:] = -np.inf  # nothing is off the list
    column_of: Int[Tensor, " row"] = torch.from_numpy(_solve(scores.numpy(), lists, bounds))
    return column_of


@_compiled
def _solve(scores: NDArray[Any], lists: NDArray[Any], bounds: NDArray[Any]) -> NDArray[Any]:
    """Return the column of every row.

    ``lists`` holds columns of every row, ``bounds`` the most that any other column offers it, score minus price; both are kept up
    to date in place. A row's profit is the offer of its column; no offer is larger (complementary slackness), and a free column
    costs nothing.
    """
    n_rows, n_columns = scores.shape
    prices = np.zeros(n_columns)
    column_of = np.full(n_rows, -1)
    row_of = np.full(n_columns, -1)
    _bid(scores, lists, bounds, prices, column_of, row_of)
    distance = np.full(n_columns, np.inf)
    reached_from = np.full(n_columns, -1)
    done = np.zeros(n_columns, dtype=np.bool_)
    for row in range(n_rows):
        if column_of[row] < 0:
            free = _search(row, scores, lists, bounds, prices, column_of, row_of, distance, reached_from, done)
            while free >= 0:  # along the path every row passes to the column that it reached
                holder = reached_from[free]
                column_of[holder], free = free, column_of[holder]
                row_of[column_of[holder]] = holder
    return column_of


@_compiled
def _bid(
    scores: NDArray[Any],
    lists: NDArray[Any],
    bounds: NDArray[Any],
    prices: NDArray[Any],
    column_of: NDArray[Any],
    row_of: NDArray[Any],
) -> None:
    """Let every free row take its best column at the price that makes it level with the second best, whoever held it."""
    waiting = [row for row in range(len(scores) - 1, -1, -1)]
    for _ in range(BIDS * len(scores)):
        if not waiting:
            return
        row = waiting.pop()
        first, second, column = _two_best(scores[row], lists[row], prices)
        if second < bounds[row]:
            bounds[row] = _reread(scores[row], lists[row], prices)
            first, second, column = _two_best(scores[row], lists[row], prices)
        holder = row_of[column]
        if holder >= 0 and first == second:
            continue  # no price would settle it: a path will
        if holder >= 0:
            column_of[holder] = -1
            waiting.append(holder)
        rival = max(second, bounds[row])
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
    lists: NDArray[Any],
    bounds: NDArray[Any],
    prices: NDArray[Any],
    column_of: NDArray[Any],
    row_of: NDArray[Any],
    distance: NDArray[Any],
    reached_from: NDArray[Any],
    done: NDArray[Any],
) -> int:
    """Find the free column nearest to a row, raise the prices on the way there and return it (Dijkstra's algorithm).

    The way from a row to a column is as long as what the row loses by it: its profit less the column's offer. Besides columns the
    heap holds rows, numbered from ``n_columns``, at the distance at which a column off their list could lie.
    """
    n_columns = len(prices)
    row, level = start, 0.0  # level: distance of the row plus its profit; the start's profit does not matter
    heap = [(level - bounds[row], n_columns + row)]
    touched, scanned = [0], [0]
    touched.pop()
    scanned.pop()
    nearest, free = np.inf, -1
    whole = False
    while True:
        for place in range(n_columns if whole else lists.shape[1]):
            column = place if whole else lists[row, place]
            reach = level - scores[row, column] + prices[column]
            if done[column] or reach >= nearest or reach >= distance[column]:
                continue
            distance[column] = reach
            reached_from[column] = row
            touched.append(column)
            if row_of[column] < 0:
                nearest, free = reach, column
            else:
                heappush(heap, (reach, column))
        whole = False
        while heap and heap[0][1] < n_columns and done[heap[0][1]]:
            heappop(heap)  # reached on a shorter way since
        if not heap or heap[0][0] >= nearest:
            break
        reach, column = heappop(heap)
        if column >= n_columns:
            row, whole = column - n_columns, True
            level = reach + bounds[row]
            bounds[row] = _reread(scores[row], lists[row], prices)
        else:
            done[column] = True
            scanned.append(column)
            row = row_of[column]
            level = reach + scores[row, column] - prices[column]
            heappush(heap, (level - bounds[row], n_columns + row))
    for column in scanned:
        prices[column] += nearest - distance[column]
        done[column] = False
    for column in touched:
        distance[column] = np.inf
    return free
