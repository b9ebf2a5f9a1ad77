"""What the records of the ladder say: every method's score at every rung, and where it breaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrbench.ladder.axes import AXES, Axis
from lrbench.ladder.breakdown import LACKING, Pooled, break_of, pooled
from lrbench.record import Record

REFERENCE = "oracle"
Curves = dict[int, dict[int, float]]  # seed → rung → score


@dataclass(frozen=True)
class Ladder:
    """Scores and breakdowns of all methods.

    Parameters
    ----------
    curves
        Axis → method → seed → rung → score.
    breaks
        Axis → method → where it breaks.
    """

    curves: Mapping[str, Mapping[str, Curves]] = field(default_factory=dict)
    breaks: Mapping[str, Mapping[str, Pooled]] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods that have a breakdown somewhere, the reference last."""
        names = dict.fromkeys(method for axis in self.breaks.values() for method in axis)
        return sorted(names, key=lambda name: (name == REFERENCE, name))

    @property
    def axes(self) -> list[Axis]:
        """The axes that have a breakdown."""
        return [axis for axis in AXES if self.breaks.get(axis.name)]


def score_of(record: Record) -> float | None:
    """Return what is held against one half, `LACKING` for a cell that was skipped, None for one that failed.

    That is the headline before it is scaled by the reference: where hardly anything can be found, who finds all of that has broken too.
    """
    if record.status == "failed":
        return None
    return LACKING if record.status == "skipped" else record.scores.get("found")


def curves_of(records: Sequence[Record]) -> dict[str, dict[str, Curves]]:
    """Return axis → method → seed → rung → score of the records that stand on a rung."""
    places = {axis.task(rung): (axis.name, rung) for axis in AXES for rung in range(len(axis.levels))}
    curves: dict[str, dict[str, Curves]] = {}
    for record in records:
        score = score_of(record)
        if record.task in places and score is not None:
            axis, rung = places[record.task]
            curves.setdefault(axis, {}).setdefault(record.method, defaultdict(dict))[record.seed][rung] = score
    return curves


def ladder_of(records: Sequence[Record]) -> Ladder:
    """Return what the records say; those of other tasks say nothing."""
    curves = curves_of(records)
    breaks: dict[str, dict[str, Pooled]] = {}
    for axis in AXES:
        for method, seeds in curves.get(axis.name, {}).items():
            found = pooled([place for points in seeds.values() if (place := break_of(axis, points)) is not None])
            if found is not None:
                breaks.setdefault(axis.name, {})[method] = found
    return Ladder(curves, breaks)
