"""The rule by which a setting of a grid is chosen, and the seeds and tasks that it is chosen on.

The winner is the setting with the best F1 among those whose headline is within 0.01 of the best one: recover the directions, and
among equals detect the features. A default stays as long as it is level with the winner: which of two settings with the same F1 to
0.002 comes out first depends on the processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrbench.record import Record
from lrbench.study import Block

TASKS = (  # of no suite that makes a leaderboard
    "superposition/1.82x",
    "hierarchy/depth2-overlapping",
    "correlation[0.65]",
    "absorption[0.25]",
    "frequency/zipf0.5",
    "noise[0.5]",
)
FIRST_SEED, SEEDS = 1000, 2  # no suite uses the seeds from 1000 on
LEVEL = 0.01  # half the headline's tolerance
TIE = 0.002  # of F1: two processors put an anchor weight of 1 at -0.0004 and at +0.0016 beside one of 0.1
METRICS = ("headline", "f1", "l0", "fvu", "dead")


@dataclass(frozen=True)
class Row:
    """One setting of a method's grid with its mean scores over so many cells."""

    setting: dict[str, Any]
    scores: dict[str, float]
    cells: int


def blocks_of(methods: Sequence[str], seeds: int | None) -> list[Block]:
    """Return the cells that some addresses are chosen by, task by task: all of `TASKS`, on so many validation seeds (`SEEDS` for None)."""
    count = SEEDS if seeds is None else seeds
    return [Block([task], methods, range(FIRST_SEED, FIRST_SEED + count)) for task in TASKS]


def rows_of(records: Sequence[Record], settings: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the settings of one method with their scores, over the tasks and seeds that all have a record of; none where there is no such.

    Parameters
    ----------
    records
        Of the method, at any setting.
    settings
        Of its grid, see `lrbench.catalogue.grid.settings_of`.
    """
    scored = [record for record in records if record.status == "ok"]
    cells = [{(r.task, r.seed): r for r in scored if holds(r.hyperparameters, setting)} for setting in settings]
    shared = sorted(set.intersection(*map(set, cells)))
    rows = []
    for setting, of_setting in zip(settings, cells, strict=True):
        means = {name: _mean([of_setting[cell].scores.get(name) for cell in shared]) for name in METRICS}
        rows.append(Row(setting, means, len(shared)))
    return rows if shared else []


def holds(hyperparameters: Mapping[str, Any], setting: Mapping[str, Any]) -> bool:
    """Whether hyper-parameters have a setting's values."""
    return all(_as_tuple(hyperparameters[name]) == _as_tuple(value) for name, value in setting.items())


def best(rows: Sequence[Row]) -> Row:
    """Return the winner: the best F1 among the settings that are level with the best headline."""
    level = max(row.scores["headline"] for row in rows) - LEVEL
    return max((row for row in rows if row.scores["headline"] >= level), key=lambda row: row.scores["f1"])


def level(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a setting is as good as the winner: by headline, and with the same F1 up to `TIE`."""
    best_headline = max(each.scores["headline"] for each in rows)
    as_good = row.scores["headline"] >= best_headline - LEVEL
    return as_good and row.scores["f1"] >= best(rows).scores["f1"] - TIE


def _as_tuple(value: Any) -> Any:
    """A record has lists where a method has tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan
