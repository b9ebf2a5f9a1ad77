"""Scores and settings in words: what a cell of a table shows."""

from __future__ import annotations

import math

from lrbench.pages.interval import Interval
from lrbench.pages.markdown import NONE, number
from lrbench.replication.findings import Found, Side
from lrbench.replication.reported import Scores

NOT_RUN = "not yet run"


def reported_text(reported: Scores) -> str:
    """Return M_GT / M_IP with the digits that the paper gives, but for zeros at the end, and a dash for what it leaves out.

    Examples
    --------
    >>> reported_text(Scores(0.8763, 0.986)), reported_text(Scores(mip=0.205))
    ('87.63% / 0.986', '– / 0.205')
    """
    recovery = NONE if math.isnan(reported.recovery) else f"{100 * reported.recovery:.4g}%"
    return f"{recovery} / {number(reported.mip)}"


def side_text(side: Side) -> str:
    """Return ours in the same form, with the half widths of the intervals where there are two seeds."""
    return f"{_percent(side.recovery)} / {_plain(side.mip)}"


def cell_text(found: Found | None, side: str) -> str:
    """Return a side of what was found, or that nothing was run."""
    return NOT_RUN if found is None else side_text(found.sides[side])


def change_text(recovery: Interval, mip: Interval) -> str:
    """Return the differences of M_GT, in points, and of M_IP, with their signs.

    Examples
    --------
    >>> change_text(Interval(0.0123, 0.004, 3), Interval(-0.1, math.nan, 1))
    '+1.2 ± 0.4 / -0.100'
    """
    if not (recovery.count and mip.count):
        return NOT_RUN
    return f"{_signed(recovery, 100.0, 1)} / {_signed(mip, 1.0, 3)}"


def _signed(seen: Interval, unit: float, digits: int) -> str:
    half = "" if math.isnan(seen.half) else f" ± {number(unit * seen.half, digits)}"
    return f"{round(unit * seen.mean, digits) + 0.0:+.{digits}f}{half}"


def _percent(seen: Interval) -> str:
    half = "" if math.isnan(seen.half) else f" ± {100 * seen.half:.1f}"
    return f"{100 * seen.mean:.1f}{half}%"


def _plain(seen: Interval) -> str:
    half = "" if math.isnan(seen.half) else f" ± {number(seen.half)}"
    return f"{number(seen.mean)}{half}"
