"""How far up the ladder each method gets, in one number: from records, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrbench.ladder.curves import REFERENCE, Ladder, ladder_of
from lrbench.record import Record


@dataclass(frozen=True)
class Standing:
    """A method's place on the ladder.

    Parameters
    ----------
    relative
        The geometric mean over axes of its breakdown level relative to the best method's: 1 for one that is best on every axis. A level
        counts the way that its axis is measured: a number of samples by how few suffice, a correlation by 1 / (1 − level).
    axes
        How many axes that is over.
    bounds
        On how many of them the method's own level, or the best one, is only a bound: an end of the axis stands for what lies beyond.
    """

    relative: float
    axes: int
    bounds: int


def standings(records: Sequence[Record]) -> dict[str, Standing]:
    """Return method → its place, best first, from the records of the study `ladder`; the reference has none.

    Records of other tasks are passed over, and a method without a level on any axis is not there.
    """
    return standings_of(ladder_of(records))


def standings_of(ladder: Ladder) -> dict[str, Standing]:
    """Return method → its place, best first."""
    found: dict[str, Standing] = {}
    for method in ladder.methods:
        if method == REFERENCE:
            continue
        ratios, bounds = [], 0
        for axis in ladder.axes:
            breaks = {name: place for name, place in ladder.breaks[axis.name].items() if name != REFERENCE}
            if method in breaks:
                best = max(breaks.values(), key=lambda place: place.hardness)
                ratios.append(breaks[method].hardness - best.hardness)
                bounds += breaks[method].bound or best.bound
        if ratios:
            found[method] = Standing(math.exp(math.fsum(ratios) / len(ratios)), len(ratios), bounds)
    return dict(sorted(found.items(), key=lambda item: (-item[1].relative, item[0])))
