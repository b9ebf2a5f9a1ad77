"""A collapsed cell: one seed on one task that lost far more than its method's seeds ever differ by."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from lrbench.metric_table import METRICS
from lrbench.record import Record

from .noise import assumed_difference

LEAST = 10.0  # tolerances: seven standard deviations of the noise that is assumed
SPREADS = 5.0  # standard deviations, over the base's seeds or of the noise that is assumed of a difference
GAINS = 1.5  # times the method's largest gain: noise throws scores up as far as down


@dataclass(frozen=True)
class Collapse:
    """A cell whose score fell by more than ``limit``."""

    suite: str
    cell: str
    method: str
    metric: str
    base: float
    head: float
    limit: float


def collapses(pairs: Sequence[tuple[Record, Record]], metrics: Sequence[str]) -> tuple[Collapse, ...]:
    """Return the collapsed cells among pairs of records, base and head.

    A cell collapsed when it lost more than all three: `LEAST` tolerances; `SPREADS` standard deviations of the assumed noise and
    over the base's seeds, on this task and in the median over the method's tasks; and `GAINS` times the most that the method
    gained on any cell of the suite.
    """
    groups: dict[tuple[str, str], list[tuple[Record, Record]]] = defaultdict(list)
    for a, b in pairs:
        groups[a.suite, a.method].append((a, b))
    return tuple(found for group in groups.values() for name in metrics for found in _of_method(group, name))


def _of_method(pairs: Sequence[tuple[Record, Record]], name: str) -> Iterator[Collapse]:
    metric = METRICS[name]
    better = 1 if metric.direction == "higher" else -1
    cells = [
        (a, x, y) for a, b in pairs if (x := a.scores.get(name)) is not None and (y := b.scores.get(name)) is not None
    ]
    if not cells:
        return
    by_task: dict[str, list[float]] = defaultdict(list)
    for record, before, _ in cells:
        by_task[record.task].append(before)
    spreads = {task: _deviation(values) for task, values in by_task.items()}
    usual = median(spreads.values())
    gain = max(better * (after - before) for _, before, after in cells)
    least = max(LEAST * metric.tolerance, GAINS * gain)
    for record, before, after in cells:
        assumed = assumed_difference(record.method, record.family, name)
        limit = max(least, SPREADS * max(usual, spreads[record.task], assumed))
        if better * (before - after) > limit:
            yield Collapse(record.suite, record.id, record.method, name, before, after, limit)


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation, 0 of a single value; `statistics.stdev` takes ten times as long."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
