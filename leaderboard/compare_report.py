"""A comparison for a terminal, for a pull request and for a program."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from textwrap import indent

from lrbench.pages import terminal
from lrbench.pages.markdown import number, table

from .collapse import Collapse
from .compare import Comparison
from .compare_cells import Kind, words
from .compare_source import Side
from .judge import DROP, Change, Outcome

REPORT_VERSION = 3
NAMES_SHOWN = 3
ROWS_SHOWN = 40  # of one table; JSON has all
SIGNS = {"no regression": "✅", "regression": "❌", "not comparable": "⚠️", "cannot tell": "⚠️", "nothing measured": "⚠️"}
CHANGES: dict[Outcome, str] = {
    "worse": "Worse",
    "cannot tell": "Beyond the tolerance, and too few seeds to tell it from noise",
    "better": "Better",
    "moved": "A reference moved, and with it the scale (not counted)",
    "unclear": "Beyond the tolerance, but no more than seeds differ (not counted)",
}
LOST_TITLES: dict[Kind, str] = {"now fails": "Fails where it did not", "now skipped": "Skipped where it had a score"}
STILL_COMPARED: tuple[Kind, ...] = ("changed source", "changed hyper-parameters", "changed kind", "value on one side")
HEADER = ("method", "score", "where", "base", "head", "change", "tolerance", "limit", "pairs", "worst task")
COLLAPSED_HEADER = ("cell", "score", "base", "head", "change", "limit")
FILES_HEADER = ("file", "why")
NOTE_HEADER = ("what", "cells", "methods", "why", "for instance")


@dataclass(frozen=True)
class Section:
    """A titled table; ``urgent`` ones are never folded away."""

    title: str
    header: Sequence[str]
    rows: list[list[str]]
    urgent: bool = False

    @property
    def shown(self) -> list[list[str]]:
        """The first rows."""
        return self.rows[:ROWS_SHOWN]

    @property
    def more(self) -> str:
        """How many rows are not shown, empty if all are."""
        left = len(self.rows) - ROWS_SHOWN
        return f"and {left} more, which --json FILE has" if left > 0 else ""


def as_text(comparison: Comparison, base: Side, head: Side) -> str:
    """For a terminal: the verdict first, then what got worse, what got better, and what was not compared and why."""
    parts = ["\n".join([f"{comparison.verdict.upper()}: {comparison.why}", *_extent(comparison, base, head)])]
    for section in _sections(comparison, base, head):
        shown = "\n".join(filter(None, [terminal.as_text([section.header, *section.shown]), section.more]))
        parts.append(f"{section.title}\n{indent(shown, '  ')}")
    return "\n\n".join(parts)


def as_markdown(comparison: Comparison, base: Side, head: Side) -> str:
    """For a pull request: the verdict and what got worse in sight, the rest folded away."""
    extent = "\n".join(f"* {line}" for line in _extent(comparison, base, head))
    parts = [f"### {SIGNS[comparison.verdict]} lrbench: {comparison.verdict}\n\n{comparison.why}\n\n{extent}\n"]
    for section in _sections(comparison, base, head):
        body = table(
            section.header,
            section.shown,
            left={NOTE_HEADER: 5, FILES_HEADER: 2, HEADER: 3}.get(tuple(section.header), 2),
        ) + (f"\n{section.more}\n" if section.more else "")
        if section.urgent:
            parts.append(f"**{section.title}**\n\n{body}")
        else:
            count = f"{section.title} ({len(section.rows)})"
            parts.append(f"<details><summary>{count}</summary>\n\n{body}\n</details>\n")
    return "\n".join(parts)


def as_json(comparison: Comparison, base: Side, head: Side) -> str:
    """For a program: every change and every note in full."""
    sides = {
        name: {"name": side.name, "set_aside": [list(file) for file in side.set_aside]}
        for name, side in (("base", base), ("head", head))
    }
    report = {"report_version": REPORT_VERSION, "exit_code": comparison.exit_code, **sides, **asdict(comparison)}
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _extent(comparison: Comparison, base: Side, head: Side) -> list[str]:
    """How much was compared, in words that do not let a small part pass for the whole."""
    lines = [
        f"{comparison.compared_cells} cells compared, of {comparison.base_cells} in base ({base.name}) and"
        f" {comparison.head_cells} in head ({head.name}), on {words(comparison.metrics)}"
    ]
    lines += [side.missing for side in (base, head) if side.missing]
    over_all = [change for change in comparison.changes if change.family is None]
    on_family = [change for change in comparison.changes if change.family is not None]
    if within := sum(change.outcome == "unchanged" for change in over_all):
        lines.append(f"{within} of {len(over_all)} scores within their tolerance")
    for changes, where in ((over_all, ""), (on_family, "on one family ")):
        if weak := [c.seeds_needed for c in changes if c.seeds_needed * c.tasks > c.pairs]:
            lines.append(
                f"{len(weak)} of {len(changes)} scores {where}have too few seeds to find every loss of {DROP:g} tolerances:"
                f" half of them take `--seeds {median_high(weak)}`, all `--seeds {max(weak)}`"
            )
    return lines


def _sections(comparison: Comparison, base: Side, head: Side) -> list[Section]:
    notes = _notes(comparison)
    compared = [row for kind, row in notes if kind in STILL_COMPARED]
    left_out = [row for kind, row in notes if kind not in LOST_TITLES and kind not in STILL_COMPARED]
    files = [
        [f"{name}: {path}", why] for name, side in (("base", base), ("head", head)) for path, why in side.set_aside
    ]
    found = [
        Section(title, NOTE_HEADER, [row for kind, row in notes if kind == lost], urgent=True)
        for lost, title in LOST_TITLES.items()
    ]
    found.append(Section("Collapsed", COLLAPSED_HEADER, _collapse_rows(comparison.collapsed), urgent=True))
    for outcome, title in CHANGES.items():
        changes = [c for c in comparison.having(outcome) if outcome != "unclear" or c.family is None or c.size > DROP]
        found.append(Section(title, HEADER, _rows(changes), urgent=outcome in ("worse", "cannot tell")))
    within = [change for change in comparison.having("unchanged") if change.worst_stands_out]
    found += [
        Section("One task stands out, the mean does not (not counted)", HEADER, _rows(within)),
        Section("Not compared", NOTE_HEADER, left_out),
        Section("Compared, but good to know", NOTE_HEADER, compared),
        Section("Files set aside", FILES_HEADER, files),
    ]
    return [section for section in found if section.rows]


def _rows(changes: Sequence[Change]) -> list[list[str]]:
    """Changes of one outcome, method by method, the worst first; a family has a row of its own where the whole has none."""
    whole = {change.score for change in changes if change.family is None}
    also = Counter(change.score for change in changes if change.family is not None)
    kept = [c for c in changes if c.family is None or c.score not in whole]
    methods = {change.method: place for place, change in reversed([*enumerate(kept)])}
    return [_row(change, also[change.score]) for change in sorted(kept, key=lambda change: methods[change.method])]


def _row(change: Change, families: int) -> list[str]:
    where = f"all tasks, {_many(families, 'family', 'families')}" if families else "all tasks"
    return [
        change.method,
        f"{change.metric} ({change.suite})",
        change.family or where,
        number(change.base),
        number(change.head),
        _signed(change.effect),
        f"{change.tolerance:g}",
        number(change.limit),
        f"{change.pairs} on {_many(change.tasks, 'task', 'tasks')}",
        f"{change.worst_task} {_signed(change.worst_effect)}",
    ]


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _signed(effect: float) -> str:
    return f"{'+' if effect > 0 else ''}{number(effect)}"


def _collapse_rows(collapsed: Sequence[Collapse]) -> list[list[str]]:
    """A row per cell, of the first score that collapsed."""
    cells: dict[tuple[str, str], list[Collapse]] = defaultdict(list)
    for found in collapsed:
        cells[found.suite, found.cell].append(found)
    return [
        [
            cell.cell,
            f"{cell.metric} ({cell.suite})" + (f" and {len(others)} more" if others else ""),
            *(number(cell.base), number(cell.head), _signed(cell.head - cell.base), number(cell.limit)),
        ]
        for cell, *others in cells.values()
    ]


def _notes(comparison: Comparison) -> list[tuple[Kind, list[str]]]:
    """The notes as rows, methods with the same kind and reason together."""
    groups: dict[tuple[Kind, str], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for note in comparison.notes:
        methods, cells = groups[note.kind, note.reason]
        methods.append(note.method)
        cells.extend(note.cells)
    return [
        (kind, [kind, str(len(cells)), _some(methods), reason or "–", cells[0]])
        for (kind, reason), (methods, cells) in groups.items()
    ]


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
