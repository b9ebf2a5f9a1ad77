"""Scores and settings in words: what a cell of a table shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrbench.pages.interval import Interval
from lrbench.pages.markdown import NONE, number
from lrbench.record import Record
from lrbench.replication.findings import Found, Side
from lrbench.replication.reported import Scores

NOT_RUN = "not yet run"


def reported_text(reported: Scores) -> str:
    """Return M_GT / M_IP as the paper writes them, with a dash for what it leaves out.

    Examples
    --------
    >>> reported_text(Scores(0.849, 0.983)), reported_text(Scores(mip=0.205))
    ('84.9% / 0.983', '– / 0.205')
    """
    recovery = NONE if math.isnan(reported.recovery) else f"{100 * reported.recovery:.1f}%"
    return f"{recovery} / {number(reported.mip)}"


def side_text(side: Side) -> str:
    """Return ours in the same form, with the half widths of the intervals where there are two seeds."""
    return f"{_percent(side.recovery)} / {_plain(side.mip)}"


def cell_text(found: Found | None, side: str) -> str:
    """Return a side of what was found, or that nothing was run."""
    return NOT_RUN if found is None else side_text(found.sides[side])


def change_text(seen: Interval) -> str:
    """Return a difference with its sign.

    Examples
    --------
    >>> change_text(Interval(0.0123, 0.004, 3)), change_text(Interval(-0.1, math.nan, 1))
    ('+0.012 ± 0.004', '-0.100')
    """
    if not seen.count:
        return NOT_RUN
    half = "" if math.isnan(seen.half) else f" ± {number(seen.half)}"
    return f"{round(seen.mean, 3) + 0.0:+.3f}{half}"


def without_score(records: Sequence[Record]) -> list[str]:
    """Return a line for every cell that ended without a score."""
    return [
        f"* `{record.task}`, `{record.method}`, seed {record.seed}: {record.status}, {record.reason}"
        for record in records
        if record.status != "ok"
    ]


def listed(names: Sequence[str]) -> str:
    """Return names with commas and an "and".

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def _percent(seen: Interval) -> str:
    half = "" if math.isnan(seen.half) else f" ± {100 * seen.half:.1f}"
    return f"{100 * seen.mean:.1f}{half}%"


def _plain(seen: Interval) -> str:
    half = "" if math.isnan(seen.half) else f" ± {number(seen.half)}"
    return f"{number(seen.mean)}{half}"
