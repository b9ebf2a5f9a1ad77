"""Methods at other L0: points of their method's curve, and how far each missed the L0 that it was told."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lrbench.catalogue.address import settings, settings_text
from lrbench.catalogue.methods import split
from lrbench.errors import LrbenchError
from lrbench.pages.interval import interval

from .means import seed_means

if TYPE_CHECKING:
    import pandas as pd

    from lrbench.record import Record

L0 = "l0"  # the hyper-parameter: a multiple of the world's mean L0
MATCHED = 0.1  # an L0 within this share of the target is matched


class Point(NamedTuple):
    """Whose curve a point is on, and the multiple of the world's mean L0 that it was told."""

    method: str
    multiple: float


def curve_points(methods: Collection[str]) -> dict[str, Point]:
    """Return the methods that are another one at another L0; both have to be among the methods.

    Examples
    --------
    >>> curve_points(["topk_sae", "topk_sae[l0=0.5]", "topk_sae[k=3,l0=2]+anchored"])
    {'topk_sae[l0=0.5]': Point(method='topk_sae', multiple=0.5)}
    """
    found = {}
    for name in methods:
        base, inside, twin = split(name)
        try:
            (own,) = settings(inside, name) if inside else [{}]
        except (
            LrbenchError,
            ValueError,
        ):  # a foreign name that is no address, or one of several methods: a row of its own
            continue
        if _positive(own.get(L0)):
            rest = settings_text({key: value for key, value in own.items() if key != L0})
            home = f"{base}{rest}+{twin}" if twin else f"{base}{rest}"
            if home in methods:
                found[name] = Point(home, float(own[L0]))
    return found


def reached(record: Record) -> dict[str, float | None]:
    """Return ``reached``, the L0 in multiples of the one that the task tells, and ``missed``, its share above or below the method's aim.

    A task tells the world's mean, but where it asks what a wrong one does. References are told nothing. None where a record does not say.
    """
    l0, mean, of_mean = record.scores.get("l0"), record.world.get("mean_l0"), record.world.get("told_l0", 1.0)
    told = record.hyperparameters.get(L0, 1.0)
    if record.status != "ok" or l0 is None or not _positive(mean) or not _positive(of_mean):
        return {"reached": None, "missed": None}
    share = l0 / float(mean) / float(of_mean)  # type: ignore[arg-type]
    missed = share / float(told) - 1.0 if record.kind != "reference" and _positive(told) else None  # type: ignore[arg-type]
    return {"reached": share, "missed": missed}


def missed_range(cells: pd.DataFrame) -> tuple[float, float]:
    """Return the least and the most that one method missed its L0 by on a task, mean over seeds; NaN where nothing is known."""
    means = cells.groupby("task")["missed"].mean().dropna()
    return (float(means.min()), float(means.max())) if len(means) else (math.nan, math.nan)


def curves(cells: pd.DataFrame, homes: Mapping[str, Point]) -> pd.DataFrame:
    """Return one row per point: ``method`` (whose curve it is), ``multiple, tasks, reached, headline, half``; in order of L0.

    The multiple is NaN where the point is the method itself, as the standings have it.

    Parameters
    ----------
    cells
        The cells that count, of points and methods.
    homes
        What `curve_points` returned.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for method in sorted({point.method for point in homes.values()}):
        own = []
        points = {method: math.nan} | {name: point.multiple for name, point in homes.items() if point.method == method}
        for point, multiple in sorted(points.items()):
            part = cells[cells["method"] == point]
            seeds = sorted(part["seed"].unique())
            means, names = seed_means(part, "headline", seeds)
            score = interval(means)
            place = interval(seed_means(part[part["task"].isin(names)], "reached", seeds)[0]).mean
            row = {"method": method, "multiple": multiple, "tasks": len(names), "reached": place}
            own.append(row | {"headline": score.mean, "half": score.half})
        rows += sorted(own, key=lambda row: row["reached"])
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["method", "multiple", "tasks", "reached", "headline", "half"])
    return frame


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
