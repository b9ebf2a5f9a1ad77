"""What records of the study say, as means over their seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrbench.pages.interval import interval
from lrbench.pages.markdown import with_interval
from lrbench.record import Record

NAME = "real"  # of the study, under which records hold what it measured
NOT_YET = "Not yet measured.\n"


def score(record: Record, name: str) -> float:
    """Return a score, NaN where it does not apply."""
    value = record.scores.get(name)
    return math.nan if value is None else value


def measured(record: Record, name: str) -> float:
    """Return what the study measured beside the scores, NaN where it did not."""
    measures = record.measures.get(NAME)
    value = None if measures is None else measures.values.get(name)
    return math.nan if value is None else value


def mean_score(records: Sequence[Record], name: str) -> float:
    """Return the mean of a score over records that have it."""
    return interval(score(record, name) for record in records).mean


def mean_measured(records: Sequence[Record], name: str) -> float:
    """Return the mean of a measure over records that have it."""
    return interval(measured(record, name) for record in records).mean


def cell(values: Sequence[float]) -> str:
    """Return a table's cell: the mean with its interval."""
    found = interval(values)
    return with_interval(found.mean, found.half)


def methods_in(records: Sequence[Record]) -> list[str]:
    """Return the methods in their order."""
    return [*dict.fromkeys(record.method for record in records)]


def of(records: Sequence[Record], method: str) -> list[Record]:
    """Return the records of a method."""
    return [record for record in records if record.method == method]
