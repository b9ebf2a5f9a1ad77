"""The cells of two sets of records: which compare, which do not, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lrbench.metric_table import METRICS
from lrbench.record import Record

DEFAULT_METRICS = tuple(metric.name for metric in METRICS.values() if metric.direction != "none")
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
    "changed kind",
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
class Note:
    """Cells of one method that are not compared, or are but call for a word; ``reason`` is one line or empty."""

    kind: Kind
    method: str
    reason: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Cells:
    """Two sets of records, cell by cell.

    Attributes
    ----------
    base, head
        Cell → record.
    pairs
        Those that were measured on both sides.
    notes
        What else there is to say.
    had_value, missing
        Number of cells that have a value in base, and the names of those whose values head does not all have.
    """

    base: Mapping[Cell, Record]
    head: Mapping[Cell, Record]
    pairs: tuple[Pair, ...]
    notes: tuple[Note, ...]
    had_value: int
    missing: tuple[str, ...]


def words(metrics: Sequence[str]) -> str:
    """Return what is compared, in words."""
    return "any score with a better direction" if metrics == DEFAULT_METRICS else ", ".join(metrics)


def pair_cells(base: Sequence[Record], head: Sequence[Record], metrics: Sequence[str]) -> Cells:
    """Pair the records of two runs on suite, task, method and seed."""
    old, new = _by_cell(base), _by_cell(head)
    notes: dict[tuple[Kind, str, str], list[str]] = defaultdict(list)
    pairs: list[Pair] = []
    for cell in sorted(old.keys() | new.keys()):
        record = new[cell] if cell in new else old[cell]
        if cell in old and cell in new:
            remarks = _remarks(old[cell], new[cell], metrics)
            if not any(kind in INCOMPARABLE for kind, _ in remarks):
                pairs.append((old[cell], new[cell]))
        else:
            why = "" if record.status == "ok" else f"{record.status}: {record.reason}"
            remarks = [("only in head" if cell in new else "only in base", why)]
        for kind, reason in remarks:
            notes[kind, record.method, reason].append(record.id)
    listed = tuple(Note(*key, cells=tuple(cells)) for key, cells in sorted(notes.items()))
    values = {cell: found for cell, record in sorted(old.items()) if (found := _values(record, metrics))}
    whole = {
        cell for cell, (a, b) in ((_cell(a), (a, b)) for a, b in pairs) if _values(a, metrics) <= _values(b, metrics)
    }
    missing = tuple(old[cell].id for cell in values if cell not in whole)
    return Cells(old, new, tuple(pairs), listed, len(values), missing)


def nothing_shared(cells: Cells, metrics: Sequence[str]) -> str:
    """Return why no cell of head has a counterpart in base."""
    names = ("suite", "task", "method", "seed")
    for i, name in enumerate(names):
        ours, theirs = ({cell[: i + 1] for cell in side} for side in (cells.base, cells.head))
        if not ours & theirs:
            left, right = (", ".join(sorted({str(cell[i]) for cell in side})) for side in (ours, theirs))
            return f"no {name} is shared: base holds {left}; head holds {right}"
    shared = cells.base.keys() & cells.head.keys()
    if all(cells.base[cell].task_hash != cells.head[cell].task_hash for cell in shared):
        return "every task that both sides hold asks something else now (its hash differs)"
    return f"no cell has a value of {words(metrics)} on both sides"


def _cell(record: Record) -> Cell:
    return (record.suite, record.task, record.method, record.seed)


def _by_cell(records: Sequence[Record]) -> dict[Cell, Record]:
    return {_cell(record): record for record in records}


def _values(record: Record, metrics: Sequence[str]) -> set[str]:
    """The metrics that a record has a value of."""
    return {name for name in metrics if record.status == "ok" and record.scores.get(name) is not None}


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
    if a.kind != b.kind:
        remarks.append(("changed kind", f"{a.kind} → {b.kind}; base's counts"))
    known = [(name, a.scores.get(name) is not None, b.scores.get(name) is not None) for name in metrics]
    for name, in_base, in_head in known:
        if in_base != in_head:
            remarks.append(("value on one side", f"{name} has a value in {'base' if in_base else 'head'} only"))
    if not any(in_base and in_head for _, in_base, in_head in known):
        remarks.append(("no value", f"{words(metrics)}: none on both sides"))
    return remarks
