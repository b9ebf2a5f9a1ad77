"""Two sets of records, base and head, into what got worse, what got better and what cannot be compared."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS
from lrbench.record import Record

from .paired import Paired, holm, paired_test

DEFAULT_METRICS = ("headline", "f1")  # finds the directions, detects the features: the two scores against the truth
ALPHA = 0.05  # the chance of any false alarm in a whole comparison
FAR = 2.0  # tolerances that one task has to lose to be pointed out
SLACK = 1e-9  # an effect of just the tolerance is none, whatever its last bit says

Verdict = Literal["no regression", "regression", "not comparable", "nothing measured"]
EXIT_CODES: dict[Verdict, int] = {"no regression": 0, "regression": 1, "not comparable": 3, "nothing measured": 4}
Outcome = Literal["worse", "better", "moved", "unclear", "unchanged"]
Kind = Literal[
    "now fails",
    "fails on both sides",
    "now skipped",
    "skipped on both sides",
    "skipped, failed before",
    "now measured",
    "changed world",
    "only in base",
    "only in head",
    "value on one side",
    "no value",
    "changed source",
    "changed hyper-parameters",
]
LOST: dict[
    Kind, tuple[str, str]
] = {  # regressions, whatever the other cells score; how to say it of one cell, and of many
    "now fails": ("fails that did not", "fail that did not"),
    "now skipped": ("is skipped that had a score", "are skipped that had a score"),
}
INCOMPARABLE: tuple[Kind, ...] = (
    *LOST,
    "fails on both sides",
    "skipped on both sides",
    "skipped, failed before",
    "now measured",
    "changed world",
    "no value",
)
Cell = tuple[str, str, str, int]  # suite, task, method, seed
Pair = tuple[Record, Record]  # base, head


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
    tasks, pairs
        Number of tasks, and of (task, seed) pairs.
    worst_task, worst_effect, worst_stands_out
        The task with the greatest loss, or the least gain; head − base there; and whether that is a loss of more than
        `FAR` tolerances that a rough test does not put down to seeds. It never makes a run red.
    p
        Holm-adjusted one-sided p-value in the effect's direction; None where the seeds are too few to test, and the
        outcome rests on the tolerance alone.
    outcome
        ``"unclear"`` is beyond the tolerance, but no more than seeds do to one another; ``"moved"`` is a reference's
        change for better or worse: it tells of the scale, not of a method.
    """

    suite: str
    method: str
    metric: str
    base: float
    head: float
    effect: float
    tolerance: float
    tasks: int
    pairs: int
    worst_task: str
    worst_effect: float
    worst_stands_out: bool
    p: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Note:
    """Cells of one method that are not compared, or are but call for a word; ``reason`` is one line or empty."""

    kind: Kind
    method: str
    reason: str
    cells: tuple[str, ...]


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
    notes
        Everything else. Those of a kind in `LOST` are regressions.
    """

    verdict: Verdict
    why: str
    metrics: tuple[str, ...]
    base_cells: int
    head_cells: int
    compared_cells: int
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regression, 3 not comparable, 4 nothing measured."""
        return EXIT_CODES[self.verdict]

    def having(self, outcome: Outcome) -> list[Change]:
        """The changes with an outcome, the largest in units of the tolerance first."""
        found = [change for change in self.changes if change.outcome == outcome]
        return sorted(found, key=lambda change: -abs(change.effect) / change.tolerance)


def compare(base: Sequence[Record], head: Sequence[Record], metrics: Sequence[str] = ()) -> Comparison:
    """Compare two sets of records.

    Cells pair on suite, task, task hash, method and seed. A method is worse on a metric when the mean effect over its
    tasks exceeds the metric's tolerance and a paired test over seeds agrees, corrected for the number of tests (too few
    seeds to test: the tolerance decides); when it fails on a cell where it did not; and when it is skipped on one that it had
    a score of. So one record on each side has a verdict too, and it is the one that pytest gives with a baseline.

    Parameters
    ----------
    base, head
        At most one record per cell on each side, as `lrbench.store.Store.read` returns them.
    metrics
        Names from `METRICS` that have a better direction; `DEFAULT_METRICS` when empty.

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
    old, new = _by_cell(base), _by_cell(head)
    notes: dict[tuple[Kind, str, str], list[str]] = defaultdict(list)
    measured: list[Pair] = []
    for cell in sorted(old.keys() | new.keys()):
        record = new[cell] if cell in new else old[cell]
        if cell in old and cell in new:
            remarks = _remarks(old[cell], new[cell], names)
            if not any(kind in INCOMPARABLE for kind, _ in remarks):
                measured.append((old[cell], new[cell]))
        else:
            why = "" if record.status == "ok" else f"{record.status}: {record.reason}"
            remarks = [("only in head" if cell in new else "only in base", why)]
        for kind, reason in remarks:
            notes[kind, record.method, reason].append(record.id)
    listed = tuple(
        Note(kind=kind, method=method, reason=reason, cells=tuple(cells))
        for (kind, method, reason), cells in sorted(notes.items())
    )
    changes = _changes(measured, names)
    verdict, why = _verdict(old, new, metrics=names, measured=measured, changes=changes, notes=listed)
    return Comparison(
        verdict=verdict,
        why=why,
        metrics=names,
        base_cells=len(old),
        head_cells=len(new),
        compared_cells=len(measured),
        changes=changes,
        notes=listed,
    )


def _checked(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in METRICS:
            usable = ", ".join(metric.name for metric in METRICS.values() if metric.direction != "none")
            raise LrbenchError(f"unknown metric {name!r}: expected one of {usable}")
        if METRICS[name].direction == "none":
            raise LrbenchError(f"metric {name!r} has no better direction, so it cannot get worse: choose another")
    return tuple(dict.fromkeys(metrics)) or DEFAULT_METRICS


def _by_cell(records: Sequence[Record]) -> dict[Cell, Record]:
    return {(record.suite, record.task, record.method, record.seed): record for record in records}


def _remarks(a: Record, b: Record, metrics: Sequence[str]) -> list[tuple[Kind, str]]:
    """What has to be known about the base's and the head's record of a cell: why they do not compare, or what else."""
    if a.task_hash != b.task_hash:
        failed = "" if b.status == "ok" else f"; now {b.status}: {b.reason}"
        return [("changed world", f"the task {b.task} asks something else now{failed}")]
    if b.status == "failed":
        return [("fails on both sides" if a.status == "failed" else "now fails", str(b.reason))]
    if b.status == "skipped":
        kinds: dict[str, Kind] = {"ok": "now skipped", "skipped": "skipped on both sides"}
        return [(kinds.get(a.status, "skipped, failed before"), str(b.reason))]
    if a.status != "ok":
        return [("now measured", f"before, {a.status}: {a.reason}")]
    remarks: list[tuple[Kind, str]] = []
    if a.source_hash != b.source_hash:
        remarks.append(("changed source", ""))
    if a.hyperparameters != b.hyperparameters:
        names = sorted(a.hyperparameters.keys() | b.hyperparameters.keys())
        values = [(name, a.hyperparameters.get(name), b.hyperparameters.get(name)) for name in names]
        remarks.append(("changed hyper-parameters", ", ".join(f"{name} {x} → {y}" for name, x, y in values if x != y)))
    known = [(name, a.scores.get(name) is not None, b.scores.get(name) is not None) for name in metrics]
    for name, in_base, in_head in known:
        if in_base != in_head:
            remarks.append(("value on one side", f"{name} has a value in {'base' if in_base else 'head'} only"))
    if not any(in_base and in_head for _, in_base, in_head in known):
        remarks.append(("no value", f"{', '.join(metrics)}: none on both sides"))
    return remarks


def _changes(pairs: Sequence[Pair], metrics: Sequence[str]) -> tuple[Change, ...]:
    """Every suite × method × metric, tested; the tests count together."""
    groups: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    references = {b.method for _, b in pairs if b.kind == "reference"}
    for a, b in pairs:
        for name in metrics:
            before, after = a.scores.get(name), b.scores.get(name)
            if before is not None and after is not None:
                groups[b.suite, b.method, name][b.task].append((before, after))
    tests = {
        key: paired_test({task: [after - before for before, after in values] for task, values in tasks.items()})
        for key, tasks in groups.items()
    }
    below, above = (_adjusted(tests, side) for side in ("p_below", "p_above"))
    level = ALPHA / max(1, sum(len(test.p_task) for test in tests.values()))
    return tuple(
        _change(
            key,
            groups[key],
            test,
            p=(below if test.effect < 0 else above).get(key),
            level=level,
            reference=key[1] in references,
        )
        for key, test in tests.items()
    )


def _adjusted(tests: Mapping[tuple[str, str, str], Paired], side: str) -> dict[tuple[str, str, str], float]:
    raw = {key: getattr(test, side) for key, test in tests.items() if getattr(test, side) is not None}
    return dict(zip(raw, holm(list(raw.values())), strict=True))


def _change(
    key: tuple[str, str, str],
    tasks: Mapping[str, Sequence[tuple[float, float]]],
    test: Paired,
    *,
    p: float | None,
    level: float,
    reference: bool,
) -> Change:
    metric = METRICS[key[2]]
    better = 1 if metric.direction == "higher" else -1
    base, head = (
        math.fsum(math.fsum(pair[side] for pair in values) / len(values) for values in tasks.values()) / len(tasks)
        for side in (0, 1)
    )
    if abs(test.effect) <= metric.tolerance + SLACK:
        outcome: Outcome = "unchanged"
    elif p is not None and p > ALPHA:
        outcome = "unclear"
    elif reference:
        outcome = "moved"
    else:
        outcome = "better" if better * test.effect > 0 else "worse"
    worst = min(test.by_task, key=lambda task: better * test.by_task[task])
    far = -better * test.by_task[worst] > FAR * metric.tolerance + SLACK
    return Change(
        *key,
        base=base,
        head=head,
        effect=test.effect,
        tolerance=metric.tolerance,
        tasks=len(tasks),
        pairs=test.pairs,
        worst_task=worst,
        worst_effect=test.by_task[worst],
        worst_stands_out=far and test.p_task.get(worst, 1.0) <= level,
        p=p,
        outcome=outcome,
    )


def _verdict(
    old: Mapping[Cell, Record],
    new: Mapping[Cell, Record],
    *,
    metrics: Sequence[str],
    measured: Sequence[Pair],
    changes: Sequence[Change],
    notes: Sequence[Note],
) -> tuple[Verdict, str]:
    """A regression first, then whether head measured anything, then whether base holds something to hold it against."""
    worse = [change for change in changes if change.outcome == "worse"]
    parts = [f"{len(worse)} of {len(changes)} scores got worse"] if worse else []
    for kind, (one, many) in LOST.items():
        lost = [note for note in notes if note.kind == kind]
        if lost:
            cells = sum(len(note.cells) for note in lost)
            count = f"1 cell {one}" if cells == 1 else f"{cells} cells {many}"
            parts.append(f"{count}, of {', '.join(sorted({note.method for note in lost}))}")
    if parts:
        return "regression", "; ".join(parts)
    of = ", ".join(metrics)
    measures = (record for record in new.values() if record.status == "ok")
    if not any(record.scores.get(name) is not None for record in measures for name in metrics):
        statuses = Counter(record.status for record in new.values())
        holds = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "no record"
        return "nothing measured", f"head holds no value of {of} ({holds})"
    if not old:
        return "not comparable", "base holds no record"
    if not measured:
        return "not comparable", _nothing_shared(old, new, of)
    return "no regression", f"none of {len(changes)} scores got worse"


def _nothing_shared(old: Mapping[Cell, Record], new: Mapping[Cell, Record], metrics: str) -> str:
    """Why no cell of head has a counterpart in base."""
    names = ("suite", "task", "method", "seed")
    for i, name in enumerate(names):
        ours, theirs = ({cell[: i + 1] for cell in side} for side in (old, new))
        if not ours & theirs:
            left, right = (", ".join(sorted({str(cell[i]) for cell in side})) for side in (ours, theirs))
            return f"no {name} is shared: base holds {left}; head holds {right}"
    if all(old[cell].task_hash != new[cell].task_hash for cell in old.keys() & new.keys()):
        return "every task that both sides hold asks something else now (its hash differs)"
    return f"no cell has a value of {metrics} on both sides"
