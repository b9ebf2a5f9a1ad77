"""Whether the synthetic board predicts the real one: the rank correlation of methods' scores between the two."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lrbench.pages.palette import palette
from lrbench.record import Record

DRAWS = 2000  # of the bootstrap over methods
LEVEL = 0.95
FEWEST = 4  # methods, or no correlation means anything
STYLE: dict[str, Any] = {"font.size": 8, "font.family": "DejaVu Sans"}


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over methods.

    Parameters
    ----------
    value
        NaN for fewer than four methods.
    low, high
        The ends of a 95% interval by the bootstrap over methods.
    methods
        How many there were.
    """

    value: float
    low: float
    high: float
    methods: int


def method_scores(records: Sequence[Record]) -> dict[str, float]:
    """Return method → headline, the mean over a family's tasks and seeds, then over families; references are left out."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        headline = record.scores.get("headline")
        if record.status == "ok" and record.kind != "reference" and headline is not None:
            found[record.method][record.family].append(headline)
    return {method: fmean(map(fmean, families.values())) for method, families in sorted(found.items())}


def correlation(first: Mapping[str, float], second: Mapping[str, float]) -> Correlation:
    """Return the rank correlation over the methods that both have.

    Examples
    --------
    >>> one = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    >>> correlation(one, {**one, "e": 9.0}).value
    1.0
    """
    import numpy as np
    from scipy.stats import rankdata

    names = sorted(first.keys() & second.keys())
    if len(names) < FEWEST:
        return Correlation(math.nan, math.nan, math.nan, len(names))
    pairs = np.array([[first[name], second[name]] for name in names])

    def spearman(some: Any) -> float:
        ranks = rankdata(some, axis=0)
        if np.ptp(ranks, axis=0).min() == 0:  # one method drawn over and over
            return math.nan
        return float(np.corrcoef(ranks.T)[0, 1].round(12))

    rng = np.random.default_rng(0)
    drawn = [spearman(pairs[rng.integers(len(pairs), size=len(pairs))]) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(spearman(pairs), float(low), float(high), len(names))


def save_scatter(board: Mapping[str, float], real: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw the score on real activations against the board's, a colour per task."""
    import matplotlib.style
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(3.6 * len(real), 3.6), layout="constrained")
        panels = figure.subplots(1, len(real), squeeze=False)[0]
        for panel, (task, scores), colour in zip(panels, real.items(), palette(len(real)), strict=True):
            for name in sorted(board.keys() & scores.keys()):
                panel.plot(board[name], scores[name], "o", color=colour, markersize=4)
                panel.annotate(name, (board[name], scores[name]), fontsize=5, xytext=(3, 2), textcoords="offset points")
            panel.margins(0.2)
            panel.set_title(task)
            panel.set_xlabel("score on the board")
            panel.set_ylabel("score on class means")
        figure.savefig(path, dpi=150, metadata={"Software": None})
