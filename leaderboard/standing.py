"""Who stands where: one row per method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrbench.metric_table import METRICS
from lrbench.pages.interval import interval

from .l0 import missed_range
from .means import seed_means
from .ranks import FEWEST_SEEDS, methods_ahead, rank_range

if TYPE_CHECKING:
    import pandas as pd


def standings(
    cells: pd.DataFrame, curves: pd.DataFrame, ranking: bool
) -> tuple[pd.DataFrame, set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the rows, best first; the (method, task) pairs that their scores rest on; and the (front, behind) that are told apart.

    Parameters
    ----------
    cells
        One row per record; points of L0 curves are not among them.
    curves
        The points, as `lrbench.leaderboard.l0.curves` gives them.
    ranking
        Whether there is a ranking at all.
    """
    import pandas as pd

    rows = [_row(str(method), own) for method, own in cells.groupby("method")]
    counted = {(row["method"], task) for row in rows for task in row.pop("names")}
    known = cells[[cell in counted for cell in zip(cells["method"], cells["task"], strict=True)]]
    ahead: set[tuple[str, str]] = set()
    for pair in {row["pair"] for row in rows}:
        enough = (row for row in rows if row["pair"] == pair and row["ranked"] and row["seeds"] >= FEWEST_SEEDS)
        peers = {row["method"]: row["tasks"] for row in enough}
        own = methods_ahead(known, peers) if ranking else set()
        ahead |= own
        for row in rows:
            if row["pair"] == pair:
                placed = ranking and row["method"] in peers
                row["rank_low"], row["rank_high"] = (
                    rank_range(row["method"], len(peers), own) if placed else (math.nan, math.nan)
                )
    for row in rows:
        row["best"], row["best_at"] = _best_of_curve(row, curves)

    def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return -row["tasks"], -row["headline"] if row["tasks"] else 0.0, row["kind"] != "reference", row["method"]

    rows.sort(key=place)
    return pd.DataFrame(rows), counted, ahead


def _row(method: str, own: pd.DataFrame) -> dict[str, Any]:
    seeds = sorted(own["seed"].unique())
    row: dict[str, Any] = {"method": method, "pair": own["pair"].iloc[0], "kind": own["kind"].iloc[0]}
    means, names = seed_means(own, "headline", seeds)
    headline = interval(means)
    own = own[own["task"].isin(names)]
    row |= {"seeds": len(seeds), "tasks": len(names), "names": names}
    row |= {"headline": headline.mean, "half": headline.half}
    row |= {
        name: interval(seed_means(own, name, seeds)[0]).mean for name in (*METRICS, "seconds") if name != "headline"
    }
    row["missed_low"], row["missed_high"] = missed_range(own)
    row["ranked"] = row["kind"] != "reference" and bool(names)
    return row


def _best_of_curve(row: Mapping[str, Any], curves: pd.DataFrame) -> tuple[float, float]:
    """Return the best score of a method's curve among points with as many tasks as the method itself, and that point's multiple."""
    own = curves[(curves["method"] == row["method"]) & (curves["tasks"] == row["tasks"])].dropna(subset=["headline"])
    if own.empty:
        return math.nan, math.nan
    best = own.loc[own["headline"].idxmax()]
    return float(best["headline"]), float(best["multiple"])
