"""Two sets of records, base and head, into what got worse, what got better and what cannot be compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS
from lrbench.record import Record

from .collapse import Collapse, collapses
from .compare_cells import LOST, Cells, Note, Pair, nothing_shared, pair_cells
from .noise import assumed_difference
from .paired import Paired, paired

DEFAULT_METRICS = ("headline", "f1")  # finds the directions, detects the features: the two scores against the truth
ALPHA = 0.05  # the chance of any false alarm in a whole comparison
DROP = 3.0  # tolerances: a true loss of this much has to be found, or the comparison says that it cannot tell
FAR = 2.0  # tolerances that one task has to lose to be pointed out
SLACK = 1e-9  # an effect of just the tolerance is none, whatever its last bit says
NAMED = 3  # cells named in one line

Verdict = Literal["no regression", "regression", "not comparable", "cannot tell", "nothing measured"]
EXIT_CODES: dict[Verdict, int] = {
    "no regression": 0,
    "regression": 1,
    "not comparable": 3,
    "cannot tell": 3,
    "nothing measured": 4,
}
Outcome = Literal["worse", "better", "moved", "cannot tell", "unclear", "unchanged"]
Key = tuple[str, str, str]  # suite, method, metric


@dataclass(frozen=True)
class Change:
    """How one metric of one method differs, over all tasks of a suite that were measured on both sides.

    Attributes
    ----------
    base, head
        Mean over tasks of the mean over seeds.
    effect
        head − base, in the metric's unit.
    tolerance
        The metric's: an effect up to this is none.
    limit
        An effect beyond this is one: the tolerance, or what noise alone may do where that is more.
    tasks, pairs
        Number of tasks, and of (task, seed) pairs.
    seeds_needed
        Seeds per task from which on a true loss of `DROP` tolerances is found with a chance of 95%.
    worst_task, worst_effect, worst_stands_out
        The task with the greatest loss, or the least gain; head − base there; and whether that is a loss of more than
        `FAR` tolerances, and more than noise does to any one task. It never makes a run red.
    outcome
        Beyond the tolerance and not the limit, an effect is ``"cannot tell"`` if it is a loss and the seeds are fewer than
        needed, else ``"unclear"``: no more than seeds do to one another. ``"moved"`` is a reference's
        change for better or worse: it tells of the scale, not of a method.
    """

    suite: str
    method: str
    metric: str
    base: float
    head: float
    effect: float
    tolerance: float
    limit: float
    tasks: int
    pairs: int
    seeds_needed: int
    worst_task: str
    worst_effect: float
    worst_stands_out: bool
    outcome: Outcome


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
        One per suite, method and metric that was measured on both sides.
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
        found = [change for change in self.changes if change.outcome == outcome]
        return sorted(found, key=lambda change: -abs(change.effect) / change.tolerance)


def compare(
    base: Sequence[Record], head: Sequence[Record], metrics: Sequence[str] = (), require_all: bool = False
) -> Comparison:
    """Compare two sets of records.

    Cells pair on suite, task, task hash, method and seed. It is a regression when the mean effect over a method's tasks
    exceeds the metric's tolerance and all that noise may do; when a cell collapses; when a method fails on a cell where it did not;
    and when it is skipped on one that it had a score of. A loss beyond the tolerance that so few seeds cannot tell from noise
    is neither a regression nor none. One record on each side has a verdict too, and it is the one that pytest gives with a baseline.

    Parameters
    ----------
    base, head
        At most one record per cell on each side, as `lrbench.store.Store.read` returns them.
    metrics
        Names from `METRICS` that have a better direction; `DEFAULT_METRICS` when empty.
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
    changes = _changes(cells.pairs, names)
    collapsed = collapses([(a, b) for a, b in cells.pairs if a.kind != "reference"], names)
    verdict, why = _verdict(cells, names, changes, collapsed, require_all=require_all)
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
            usable = ", ".join(metric.name for metric in METRICS.values() if metric.direction != "none")
            raise LrbenchError(f"unknown metric {name!r}: expected one of {usable}")
        if METRICS[name].direction == "none":
            raise LrbenchError(f"metric {name!r} has no better direction, so it cannot get worse: choose another")
    return tuple(dict.fromkeys(metrics)) or DEFAULT_METRICS


def _better(metric: str) -> int:
    return 1 if METRICS[metric].direction == "higher" else -1


def _changes(pairs: Sequence[Pair], metrics: Sequence[str]) -> tuple[Change, ...]:
    """Every suite × method × metric, weighed; those that moved at all share the chance of a false alarm."""
    groups: dict[Key, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    references = {a.method for a, _ in pairs if a.kind == "reference"}  # base says so, not head
    noise: dict[Key, dict[str, float]] = defaultdict(dict)
    for a, b in pairs:
        for name in metrics:
            before, after = a.scores.get(name), b.scores.get(name)
            if before is not None and after is not None:
                groups[a.suite, a.method, name][a.task].append((before, after))
                noise[a.suite, a.method, name][a.task] = assumed_difference(a.method, a.family, name)
    weighed = {
        key: paired(
            {task: [_better(key[2]) * (after - before) for before, after in values] for task, values in tasks.items()},
            assumed=noise[key],
        )
        for key, tasks in groups.items()
    }
    moved = [
        sum(any(before != after for before, after in values) for values in tasks.values())
        for key, tasks in groups.items()
        if key[1] not in references
    ]
    alpha, alpha_task = ALPHA / max(1, sum(map(bool, moved))), ALPHA / max(1, sum(moved))
    return tuple(
        _change(key, groups[key], found, alpha=alpha, alpha_task=alpha_task, reference=key[1] in references)
        for key, found in weighed.items()
    )


def _change(
    key: Key,
    tasks: Mapping[str, Sequence[tuple[float, float]]],
    found: Paired,
    *,
    alpha: float,
    alpha_task: float,
    reference: bool,
) -> Change:
    tolerance, better = METRICS[key[2]].tolerance, _better(key[2])
    base, head = (fmean(fmean(pair[side] for pair in values) for values in tasks.values()) for side in (0, 1))
    limit = max(tolerance + SLACK, found.limit(alpha))
    needed = found.seeds_for(DROP * tolerance, alpha)
    if abs(found.effect) <= tolerance + SLACK:
        outcome: Outcome = "unchanged"
    elif abs(found.effect) > limit:
        outcome = "moved" if reference else "better" if found.effect > 0 else "worse"
    elif found.effect > 0 or reference or needed <= min(found.seeds.values()):
        outcome = "unclear"
    else:
        outcome = "cannot tell"
    worst = min(found.by_task, key=lambda task: found.by_task[task])
    far = max(FAR * tolerance + SLACK, found.limit(alpha_task, worst))
    return Change(
        *key,
        base=base,
        head=head,
        effect=better * found.effect,
        tolerance=tolerance,
        limit=limit,
        tasks=len(tasks),
        pairs=found.pairs,
        seeds_needed=needed,
        worst_task=worst,
        worst_effect=better * found.by_task[worst],
        worst_stands_out=found.by_task[worst] < -far,
        outcome=outcome,
    )


def _verdict(
    cells: Cells,
    metrics: Sequence[str],
    changes: Sequence[Change],
    collapsed: Sequence[Collapse],
    *,
    require_all: bool,
) -> tuple[Verdict, str]:
    """A regression first, then whether head measured anything, then whether base holds something to hold it against."""
    compared = f"compared {len(cells.pairs)} of {len(cells.base)} cells of base"
    if parts := _regressions(cells, changes, collapsed, require_all=require_all):
        return "regression", "; ".join([*parts, compared])
    of = ", ".join(metrics)
    measures = (record for record in cells.head.values() if record.status == "ok")
    if not any(record.scores.get(name) is not None for record in measures for name in metrics):
        statuses = Counter(record.status for record in cells.head.values())
        holds = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "no record"
        return "nothing measured", f"head holds no value of {of} ({holds})"
    if not cells.base:
        return "not comparable", "base holds no record"
    if not cells.pairs:
        return "not comparable", nothing_shared(cells, of)
    if unsure := [change for change in changes if change.outcome == "cannot tell"]:
        seeds = max(change.seeds_needed for change in unsure)
        return "cannot tell", (
            f"{len(unsure)} of {len(changes)} scores lost more than the tolerance, which may be noise; "
            f"run both sides with `--seeds {seeds}`; {compared}"
        )
    return "no regression", f"none of {len(changes)} scores got worse; {compared}"


def _regressions(
    cells: Cells, changes: Sequence[Change], collapsed: Sequence[Collapse], *, require_all: bool
) -> list[str]:
    """What makes head worse than base, in words."""
    worse = sum(change.outcome == "worse" for change in changes)
    parts = [f"{worse} of {len(changes)} scores got worse"] if worse else []
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
