"""How far up the ladder each method of a board gets: one number, from the records of the study `ladder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrbench.catalogue.studies import find_study
from lrbench.ladder.summary import standings
from lrbench.store import read_packed
from lrbench.suite import SUITES

if TYPE_CHECKING:
    from lrbench.record import Record

STUDY = "ladder"


def with_committed_ladder(records: Sequence[Record]) -> list[Record]:
    """Return the records and, where none is the study's, those that are committed beside it at the scale of one of their suites."""
    known = {record.suite for record in records if record.study is None}
    if any(record.study == STUDY for record in records):
        return list(records)
    files = [find_study(STUDY).packed(suite) for suite in SUITES if any(_same_scale(suite, own) for own in known)]
    return [*records, *(record for file in files if file.is_file() for record in read_packed(file))]


def breakdowns(suite: str, records: Sequence[Record]) -> dict[str, float]:
    """Return method → the geometric mean over axes of where it breaks, relative to the best method's, see `lrbench.ladder.summary`.

    Only the records at the suite's scale count, and a method whose file, or what that imports, was another one then has no number.
    """
    own = {record.method: record.source_hash for record in records if record.study is None and record.suite == suite}
    rungs = [record for record in records if record.study == STUDY and _same_scale(record.suite, suite)]
    then = {record.method: record.source_hash for record in rungs}
    places = standings(rungs).items()
    return {method: place.relative for method, place in places if own.get(method) == then[method]}


def _same_scale(one: str, other: str) -> bool:
    return one in SUITES and other in SUITES and SUITES[one].scale == SUITES[other].scale
