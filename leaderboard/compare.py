"""Two sets of records, base and head, into what got worse, what got better and what cannot be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS
from lrbench.record import Record

from .collapse import Collapse, collapses
from .compare_cells import DEFAULT_METRICS, LOST, Cells, Note, nothing_shared, pair_cells
from .judge import MAIN, Change, Key, Outcome, judge

NAMED = 3  # cells, or changes, named in one line

Verdict = Literal["no regression", "regression", "not comparable", "cannot tell", "nothing measured"]
EXIT_CODES: dict[Verdict, int] = {
    "no regression": 0,
    "regression": 1,
    "not comparable": 3,
    "cannot tell": 3,
    "nothing measured": 4,
}


@dataclass(frozen=True)
class Comparison:
    """All that is said about two sets of records.

    Attributes
    ----------
    verdict, why
        The answer, and one line on it.
    metrics
        The metrics compared.
    base_cells, head_cells, compared_cells
        Number of records on each side, and of pairs that were measured on both.
    changes
        One per suite, method and metric that was measured on both sides, over all tasks; and one per family if there are several.
    collapsed
        Cells that lost far more than noise does. They are regressions.
    notes
        Everything else. Those of a kind in `LOST` are regressions.
    missing
        Cells that have a value in base that head does not have. They are regressions if all are required.
    """

    verdict: Verdict
    why: str
    metrics: tuple[str, ...]
    base_cells: int
    head_cells: int
    compared_cells: int
    changes: tuple[Change, ...]
    collapsed: tuple[Collapse, ...]
    notes: tuple[Note, ...]
    missing: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regression, 3 not comparable or cannot tell, 4 nothing measured."""
        return EXIT_CODES[self.verdict]

    def having(self, outcome: Outcome) -> list[Change]:
        """The changes with an outcome, the largest in units of the tolerance first."""
        return _with(self.changes, outcome)


def compare(
    base: Sequence[Record], head: Sequence[Record], metrics: Sequence[str] = (), require_all: bool = False
) -> Comparison:
    """Compare two sets of records.

    Cells pair on suite, task, task hash, method and seed. It is a regression when a method's mean loss over all tasks, or over the
    tasks of one family, exceeds the metric's tolerance and all that noise may do; when a cell collapses; when a method fails on a cell
    where it did not; and when it is skipped on one that it had a score of. A loss of a main score that so few seeds cannot tell from
    noise is neither a regression nor none. One record on each side has a verdict too, and it is the one that pytest gives with a baseline.

    Parameters
    ----------
    base, head
        At most one record per cell on each side, as `lrbench.store.Store.read` returns them.
    metrics
        Names from `METRICS` that have a better direction; all of these when empty, with `MAIN` as the main
        scores.
    require_all
        Whether a cell that has a value in base, and not in head or not on the same task, is a regression.

    Raises
    ------
    LrbenchError
        For a metric that does not exist or has no better direction.

    Examples
    --------
    >>> from lrbench.store import Store
    >>> found = compare(Store("before").read()[0], Store("after").read()[0])  # doctest: +SKIP
    >>> found.verdict, found.exit_code  # doctest: +SKIP
    ('no regression', 0)
    """
    names = _checked(metrics)
    cells = pair_cells(base, head, names)
    main = names if metrics else MAIN
    changes = judge(cells.pairs, names, main)
    collapsed = collapses([(a, b) for a, b in cells.pairs if a.kind != "reference"], names)
    verdict, why = _verdict(cells, names, main, changes, collapsed, require_all=require_all)
    return Comparison(
        verdict=verdict,
        why=why,
        metrics=names,
        base_cells=len(cells.base),
        head_cells=len(cells.head),
        compared_cells=len(cells.pairs),
        changes=changes,
        collapsed=collapsed,
        notes=cells.notes,
        missing=cells.missing,
    )


def _checked(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in METRICS:
            raise LrbenchError(f"unknown metric {name!r}: expected one of {', '.join(DEFAULT_METRICS)}")
        if METRICS[name].direction == "none":
            raise LrbenchError(f"metric {name!r} has no better direction, so it cannot get worse: choose another")
    return tuple(dict.fromkeys(metrics)) or DEFAULT_METRICS


def _verdict(
    cells: Cells,
    metrics: Sequence[str],
    main: Sequence[str],
    changes: Sequence[Change],
    collapsed: Sequence[Collapse],
    *,
    require_all: bool,
) -> tuple[Verdict, str]:
    """A regression first, then whether head measured anything, then whether base holds something to hold it against."""
    compared = f"compared {len(cells.pairs)} of {len(cells.base)} cells of base"
    if parts := _regressions(cells, changes, collapsed, require_all=require_all):
        return "regression", "; ".join([*parts, compared])
    measures = (record for record in cells.head.values() if record.status == "ok")
    if not any(record.scores.get(name) is not None for record in measures for name in main):
        statuses = Counter(record.status for record in cells.head.values())
        holds = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "no record"
        return "nothing measured", f"head holds no value of {', '.join(main)} ({holds})"
    if not cells.base:
        return "not comparable", "base holds no record"
    if not cells.pairs:
        return "not comparable", nothing_shared(cells, metrics)
    scores = len({change.score for change in changes})
    if unsure := _with(changes, "cannot tell"):
        seeds = max(change.seeds_needed for change in unsure)
        return "cannot tell", (
            f"{_counted(unsure, scores)} lost more than the tolerance, which may be noise{_named(unsure)}; "
            f"run both sides with `--seeds {seeds}`; {compared}"
        )
    return "no regression", f"none of {scores} scores got worse; {compared}"


def _with(changes: Sequence[Change], outcome: Outcome) -> list[Change]:
    """The changes with an outcome, the largest in units of the tolerance first."""
    return sorted((change for change in changes if change.outcome == outcome), key=lambda change: -change.size)


def _counted(changes: Sequence[Change], scores: int) -> str:
    return f"{len({change.score for change in changes})} of {scores} scores"


def _named(changes: Sequence[Change]) -> str:
    """Each score once: over all tasks if it is among the changes, else on the family where it changed most."""
    first: dict[Key, Change] = {}
    for change in changes:
        if change.family is None or change.score not in first:
            first[change.score] = change
    shown = [
        f"{c.method} {c.metric}{'' if c.family is None else f' on {c.family}'} {c.effect:+.3f}"
        for c in [*first.values()][:NAMED]
    ]
    more = len(first) - NAMED
    return f": {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")


def _regressions(
    cells: Cells, changes: Sequence[Change], collapsed: Sequence[Collapse], *, require_all: bool
) -> list[str]:
    """What makes head worse than base, in words."""
    worse = _with(changes, "worse")
    scores = len({change.score for change in changes})
    parts = [f"{_counted(worse, scores)} got worse{_named(worse)}"] if worse else []
    if collapsed:
        ids = list(dict.fromkeys((found.suite, found.cell) for found in collapsed))
        count = "1 cell" if len(ids) == 1 else f"{len(ids)} cells"
        parts.append(f"{count} collapsed, of {', '.join(sorted({found.method for found in collapsed}))}")
    for kind, (one, many) in LOST.items():
        lost = [note for note in cells.notes if note.kind == kind]
        if lost:
            total = sum(len(note.cells) for note in lost)
            count = f"1 cell {one}" if total == 1 else f"{total} cells {many}"
            parts.append(f"{count}, of {', '.join(sorted({note.method for note in lost}))}")
    if require_all and cells.missing:
        more = len(cells.missing) - NAMED
        named = ", ".join(cells.missing[:NAMED]) + (f" and {more} more" if more > 0 else "")
        parts.append(
            f"--require-all: {len(cells.missing)} of {cells.had_value} cells with a value in base lack it: {named}"
        )
    return parts
