"""Two sets of records, base and head, into what got worse, what got better and what cannot be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lrbench.errors import LrbenchError, UnknownName
from lrbench.leaderboard.paired import Paired, holm, paired_test
from lrbench.metric_table import METRICS
from lrbench.record import Record, cell_id

DEFAULT_METRICS = ("headline", "f1", "fvu")
ALPHA = 0.05  # chance of any false alarm in a whole comparison
SLACK = 1e-9  # a difference of just the tolerance is no effect, whatever its last bit says

Verdict = Literal["no regression", "regression", "not comparable", "nothing measured"]
EXIT_CODES: dict[Verdict, int] = {"no regression": 0, "regression": 1, "not comparable": 3, "nothing measured": 4}
Outcome = Literal["worse", "better", "unclear", "unchanged"]
Kind = Literal[
    "now fails", "fails on both sides", "now skipped", "skipped on both sides", "now measured", "changed world",
    "only in base", "only in head", "no value on one side", "changed source", "changed hyper-parameters",
]  # fmt: skip
Cells = dict[tuple[str, str, str, int], Record]  # by suite, task, method and seed
Differences = dict[str, list[float]]  # by task


@dataclass(frozen=True)
class Change:
    """How one method's metric differs, over all tasks of a suite that were measured on both sides.

    Attributes
    ----------
    base, head
        Mean over tasks of the mean over seeds.
    effect
        head − base, in the metric's unit.
    tolerance
        The metric's: an effect up to this is none.
    pairs, tasks
        Number of (task, seed) pairs and of tasks that they come from.
    p
        Holm-adjusted one-sided p-value of the effect's direction; None where the seeds are too few to test, and the
        outcome rests on the tolerance alone.
    outcome
        ``"unclear"``: beyond the tolerance, but seeds that differ this much explain it.
    """

    suite: str
    method: str
    metric: str
    base: float
    head: float
    effect: float
    tolerance: float
    pairs: int
    tasks: int
    p: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Note:
    """Cells of one method that are not compared, or are but need a word; ``reason`` is empty where the kind says all."""

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
        Number of records on each side, and of pairs measured on both.
    changes
        One for every suite, method and metric measured on both sides.
    notes
        Everything else; those of the kind ``"now fails"`` are regressions.
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
        """The changes with an outcome, largest in units of the tolerance first."""
        found = [change for change in self.changes if change.outcome == outcome]
        return sorted(found, key=lambda change: -abs(change.effect) / change.tolerance)


def compare(base: Sequence[Record], head: Sequence[Record], metrics: Sequence[str] = ()) -> Comparison:
    """Compare two sets of records.

    Cells pair on suite, task, task hash, method and seed. A method is worse on a metric when the mean effect over its
    tasks exceeds the metric's tolerance and a paired test over seeds agrees, corrected for the number of tests.

    Parameters
    ----------
    base, head
        At most one record a cell on each side, as `lrbench.store.Store.read` returns them.
    metrics
        Names from `METRICS` that have a better direction; `DEFAULT_METRICS` when empty.

    Raises
    ------
    LrbenchError
        For a metric that does not exist or has no better direction.
    """
    names = tuple(dict.fromkeys(metrics or DEFAULT_METRICS))
    for name in names:
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
        if METRICS[name].direction == "none":
            raise LrbenchError(f"metric {name!r} has no better direction, so it cannot get worse: choose another")
    old, new = _by_cell(base), _by_cell(head)
    notes: dict[tuple[Kind, str, str], list[str]] = defaultdict(list)
    both = []
    for cell in sorted(old.keys() | new.keys()):
        kind, reason = _lost(old.get(cell), new.get(cell))
        if kind is None:
            both.append((old[cell], new[cell]))
        else:
            notes[kind, cell[2], reason].append(_id(cell))
    for a, b in both:
        for kind, reason in _remarks(a, b, names):
            notes[kind, a.method, reason].append(a.id)
    changes = _changes(both, names)
    listed = tuple(Note(kind, method, reason, tuple(cells)) for (kind, method, reason), cells in sorted(notes.items()))
    compared = sum(any(_value(r, name) is not None for name in names) for r in ())
    verdict, why = _verdict(old, new, names, changes, listed)
    return Comparison(verdict, why, names, len(old), len(new), compared, changes, listed)
