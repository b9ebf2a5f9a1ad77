"""What the records of the settling test say of every prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrbench.catalogue.methods import split
from lrbench.falsify.predictions import PREDICTIONS, Prediction, Seen
from lrbench.falsify.verdict import OPEN, judge, stops
from lrbench.falsify.worlds import Point, places, plan_of
from lrbench.pages.interval import Interval, interval
from lrbench.record import Record

STUDY = "falsify"
SCORES = ("matched_dec", "mip_enc", "recovery_dec", "recovery_enc", "fvu", "escape", "absorption")


@dataclass(frozen=True)
class Outcome:
    """A trained dictionary: kind of world, point, seed, method and twin, and what was seen of it, or why nothing was."""

    kind: str
    point: Point
    seed: int
    method: str
    twin: str
    numbers: dict[str, float] | None
    reason: str | None = None


@dataclass(frozen=True)
class Finding:
    """A prediction at one point.

    Parameters
    ----------
    seen
        The mean over methods, over seeds.
    verdict
        On that mean.
    methods
        Interval and verdict of every method.
    """

    seen: Interval
    verdict: str
    methods: dict[str, tuple[Interval, str]]


@dataclass(frozen=True)
class Result:
    """A prediction along both axes."""

    prediction: Prediction
    base: Finding
    rates: dict[float, Finding]
    bends: dict[float, Finding]

    @property
    def stops_rate(self) -> str:
        """How far in 1−S the prediction holds."""
        return stops([*self.rates], [finding.verdict for finding in self.rates.values()])

    @property
    def stops_bend(self) -> str:
        """How far in ε the prediction holds."""
        return stops([*self.bends], [finding.verdict for finding in self.bends.values()])


def outcomes_of(suite: str, records: Sequence[Record]) -> list[Outcome]:
    """Return the records as outcomes: scores and measures in one, NaN where one does not apply."""
    where, found = places(suite), []
    for record in records:
        kind, point = where[record.task]
        method, _, twin = split(record.method)
        numbers: dict[str, float] | None = None
        if record.status == "ok":
            measures = record.measures[STUDY].values if STUDY in record.measures else {}
            values = {name: record.scores.get(name) for name in SCORES} | measures
            numbers = {name: math.nan if value is None else value for name, value in values.items()}
        found.append(Outcome(kind, point, record.seed, method, twin, numbers, record.reason))
    return found


def results_of(suite: str, outcomes: Sequence[Outcome]) -> list[Result]:
    """Return what the outcomes say of every prediction."""
    plan = plan_of(suite)
    by_point: dict[Point, dict[int, dict[tuple[str, str, str], dict[str, float]]]] = {}
    for outcome in outcomes:
        seen = by_point.setdefault(outcome.point, {}).setdefault(outcome.seed, {})
        if outcome.numbers is not None:
            seen[outcome.kind, outcome.method, outcome.twin] = outcome.numbers

    def at(prediction: Prediction) -> Callable[[Point], Finding]:
        return lambda point: finding(prediction, [*by_point.get(point, {}).values()])

    results = []
    for prediction in PREDICTIONS:
        find = at(prediction)
        results.append(
            Result(
                prediction,
                base=find(plan.base),
                rates={plan.rate(point): find(point) for point in plan.rates},
                bends={point.bend: find(point) for point in plan.bends},
            )
        )
    return results


def finding(prediction: Prediction, seeds: Sequence[Seen]) -> Finding:
    """Return the intervals over seeds: of the mean over methods, and of every method."""
    observed = [prediction.observe(seen) for seen in seeds]
    names = dict.fromkeys(name for one in observed for name in one)
    each = {name: interval([one.get(name, math.nan) for one in observed]) for name in names}
    means = interval([_mean([*one.values()]) for one in observed])
    judged = {name: (seen, _judge(prediction, seen)) for name, seen in each.items()}
    return Finding(means, _judge(prediction, means), judged)


def _judge(prediction: Prediction, seen: Interval) -> str:
    return judge(seen, prediction.above, prediction.threshold) if seen.count else OPEN


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
