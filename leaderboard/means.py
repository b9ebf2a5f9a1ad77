"""The mean that every table rests on: families weigh equally, and a seed is one observation."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def seed_means(cells: pd.DataFrame, column: str, seeds: Sequence[int]) -> tuple[list[float], list[str]]:
    """Return one mean per seed of one method's cells, and the tasks that counted: those with a value on every seed.

    The mean is over the tasks of a family first, then over families, so that a family with many levels says no more than one
    with few.

    Parameters
    ----------
    cells
        Rows with ``family, task, seed`` and the column.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for family, task, seed, value in zip(*(cells[name] for name in ("family", "task", "seed", column)), strict=True):
        if not math.isnan(value):
            found.setdefault((str(family), str(task)), {})[int(seed)] = float(value)
    whole = {place: own for place, own in sorted(found.items()) if own.keys() >= set(seeds)}
    families: dict[str, list[dict[int, float]]] = {}
    for (family, _), own in whole.items():
        families.setdefault(family, []).append(own)
    if not whole:
        return [], []
    means = [fmean(fmean(own[seed] for own in tasks) for tasks in families.values()) for seed in seeds]
    return means, [task for _, task in whole]


def natural(name: str) -> list[tuple[int, float, str]]:
    """Sort key under which 0.8x, 1.04x, 2x, 10x stand in this order."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]
