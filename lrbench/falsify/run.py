"""Train all cells in worker processes, and hold what was seen against the predictions."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrbench.backends import Event, Failed, Finished, run_jobs
from lrbench.errors import LrbenchError
from lrbench.falsify.outcome import Numbers
from lrbench.falsify.predictions import PREDICTIONS, Prediction, Seen
from lrbench.falsify.verdict import OPEN, Interval, interval, judge, stops
from lrbench.falsify.worlds import Cell, Point, cells_of, methods_of, points_of
from lrbench.task import get_suite

SEEDS = {"smoke": 2, "quick": 3, "standard": 3}
LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """A cell and what was seen of it, or why nothing was."""

    cell: Cell
    numbers: Numbers | None
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


def check_arguments(suite: str, seeds: int | None, workers: int | None) -> tuple[int, int]:
    """Return the numbers of seeds and workers, or raise `LrbenchError` where one is not allowed."""
    get_suite(suite)
    seeds = SEEDS[suite] if seeds is None else seeds
    workers = (os.cpu_count() or 1) if workers is None else workers
    for name, value in (("seeds", seeds), ("workers", workers)):
        if value < 1:
            raise LrbenchError(f"{name}={value}: expected at least 1")
    return seeds, workers


def train(
    suite: str = "quick", seeds: int | None = None, workers: int | None = None, methods: Sequence[str] | None = None
) -> list[Outcome]:
    """Return the outcome of every cell, in the order of the plan.

    Parameters
    ----------
    suite
        The scale, see `lrbench.falsify.worlds.scale_of`.
    seeds, workers
        Their numbers; by default the suite's (`SEEDS`) and one process a core.
    methods
        Names of SDL methods, all of the catalogue by default.

    Raises
    ------
    LrbenchError
        For an unknown suite or a number below 1.
    """
    seeds, workers = check_arguments(suite, seeds, workers)
    cells = cells_of(suite, seeds, methods_of() if methods is None else list(methods))
    found: dict[Cell, Outcome] = {}
    tell = _Teller(len(cells))

    def on_event(event: Event) -> None:
        if isinstance(event, Finished):
            found[event.job] = Outcome(event.job, event.result)
        elif isinstance(event, Failed):
            found[event.job] = Outcome(event.job, None, event.reason)
        tell(len(found))

    work, setup = "lrbench.falsify.outcome:run_cell", "lrbench.cell:prepare_worker"
    run_jobs(cells, work, setup=setup, workers=workers, on_event=on_event)
    return [found[cell] for cell in cells]


class _Teller:
    """Says on stderr how far the run is, every few seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.began = total, time.monotonic()
        self.last = self.began

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if done and (now - self.last >= LINE_SECONDS or done == self.total):
            self.last, left = now, (now - self.began) / done * (self.total - done)
            print(f"{done}/{self.total} cells, about {left:.0f} s left", file=sys.stderr, flush=True)


def results_of(suite: str, outcomes: Sequence[Outcome]) -> list[Result]:
    """Return what the outcomes say of every prediction."""
    base, rates, bends = points_of(suite)
    by_point: dict[Point, dict[int, dict[tuple[str, str, str], Numbers]]] = {}
    for outcome in outcomes:
        cell = outcome.cell
        seen = by_point.setdefault(cell.point, {}).setdefault(cell.seed, {})
        if outcome.numbers is not None:
            seen[cell.kind, cell.method, cell.twin] = outcome.numbers

    def at(prediction: Prediction) -> Callable[[Point], Finding]:
        return lambda point: finding(prediction, [*by_point[point].values()])

    results = []
    for prediction in PREDICTIONS:
        find = at(prediction)
        results.append(
            Result(prediction, find(base), {p.rate: find(p) for p in rates}, {p.bend: find(p) for p in bends})
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
