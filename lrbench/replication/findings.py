"""What the records say of a row: both sides' scores over seeds, and how they stand to what is reported."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from lrbench.pages.interval import Interval, interval
from lrbench.record import Record
from lrbench.replication.reported import Scores

TOLERANCE = 0.05  # of M_IP, and of M_GT where the paper gives no M_IP: what counts as the reported value
TAU = 0.95
AS_REPORTED, HIGHER, LOWER, UNKNOWN = "as reported", "higher", "lower", "not measured"
SIDES = {"enc": "encoder", "raw": "encoder as it is", "dec": "decoder"}  # "raw": rows keep their length
STUDY = "replicate"
Cells = Mapping[tuple[str, str], Sequence[Record]]  # (task, method) → records, failures among them


@dataclass(frozen=True)
class Side:
    """M_GT and M_IP of one side, over seeds."""

    recovery: Interval
    mip: Interval

    def relation(self, reported: Scores) -> str:
        """Return how ours stands to what is reported, by M_IP, or by M_GT where that is all there is."""
        by_mip = not math.isnan(reported.mip)
        ours, theirs = (self.mip.mean, reported.mip) if by_mip else (self.recovery.mean, reported.recovery)
        if math.isnan(ours):
            return UNKNOWN
        if abs(ours - theirs) <= TOLERANCE:
            return AS_REPORTED
        return HIGHER if ours > theirs else LOWER


@dataclass(frozen=True)
class Found:
    """A method on a task, over seeds.

    Parameters
    ----------
    sides
        By the names of `SIDES`.
    l0
        Mean number of active latents.
    records
        What it was read from.
    """

    sides: Mapping[str, Side]
    l0: float
    records: Sequence[Record]

    def verdict(self, reported: Scores) -> str:
        """Return how both sides stand to what is reported."""
        return ", ".join(f"{name} {self.sides[side].relation(reported)}" for side, name in SIDES.items())

    def curve(self, side: str) -> tuple[list[float], list[float]]:
        """Return thresholds, and the recovery of a side at each, mean over seeds."""
        curves = [record.curves for record in self.records]
        means = [
            math.fsum(values) / len(values)
            for values in zip(*(each[f"recovery_{side}"] for each in curves), strict=True)
        ]
        return curves[0]["threshold"], means


def cells_of(records: Sequence[Record]) -> Cells:
    """Return the records by task and method."""
    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        cells[record.task, record.method].append(record)
    return cells


def find(cells: Cells, task: str, method: str) -> Found | None:
    """Return what was measured of a method on a task, None where no cell has a score."""
    known = [record for record in cells.get((task, method), ()) if record.status == "ok"]
    if not known:
        return None
    sides = {side: Side(*(_over(known, f"{name}_{side}") for name in ("recovery", "mip"))) for side in SIDES}
    return Found(sides, _over(known, "l0").mean, known)


def possible(reported: Scores) -> bool:
    """Whether M_GT and M_IP can both hold: every feature above τ brings the mean to τ times their share.

    Examples
    --------
    >>> possible(Scores(1.0, 0.436)), possible(Scores(0.849, 0.983))
    (False, True)
    """
    return math.isnan(reported.recovery + reported.mip) or TAU * reported.recovery <= reported.mip + 1e-9


def change(cells: Cells, task: str, method: str, twin: str, score: str) -> Interval:
    """Return what a twin changes in a score, over the seeds that both have."""
    plain, with_twin = (
        {record.seed: value_of(record, score) for record in cells.get((task, name), ()) if record.status == "ok"}
        for name in (method, method + twin)
    )
    return interval(
        [
            after - before
            for seed in plain
            if (after := with_twin.get(seed)) is not None and (before := plain[seed]) is not None
        ]
    )


def spread(cells: Cells, score: str, family: str) -> list[float]:
    """Return the standard deviation over seeds of a score, of every cell of a family of tasks that has two seeds."""
    found = []
    for (task, _), records in cells.items():
        values = [
            value for record in records if record.status == "ok" and (value := value_of(record, score)) is not None
        ]
        if task.partition("/")[0].partition("[")[0] == family and len(values) > 1:
            found.append(stdev(values))
    return found


def value_of(record: Record, score: str) -> float | None:
    """Return a score, or what the study measured under that name, None where there is none."""
    if STUDY in record.measures and score in record.measures[STUDY].values:
        return record.measures[STUDY].values[score]
    return record.scores.get(score)


def _over(records: Sequence[Record], score: str) -> Interval:
    values = [value_of(record, score) for record in records]
    return interval([math.nan if value is None else value for value in values])
