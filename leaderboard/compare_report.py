"""A comparison for a terminal, for a pull request and for a program."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import indent

from lrbench.pages import terminal
from lrbench.pages.markdown import number, table

from .compare import ALPHA, Change, Comparison, Kind, Outcome
from .compare_source import Side

REPORT_VERSION = 1
NAMES_SHOWN = 3
SIGNS = {"no regression": "✅", "regression": "❌", "not comparable": "⚠️", "nothing measured": "⚠️"}
CHANGES: dict[Outcome, str] = {
    "worse": "Worse",
    "better": "Better",
    "moved": "A reference moved, and with it the scale (not counted)",
    "unclear": "Beyond the tolerance, but no more than seeds differ (not counted)",
}
LOST_TITLES: dict[Kind, str] = {"now fails": "Fails where it did not", "now skipped": "Skipped where it had a score"}
STILL_COMPARED: tuple[Kind, ...] = ("changed source", "changed hyper-parameters", "value on one side")
HEADER = ("method", "score", "base", "head", "change", "tolerance", "p", "pairs", "worst task")
NOTE_HEADER = ("what", "cells", "methods", "why", "for instance")


@dataclass(frozen=True)
class Section:
    """A titled table; ``urgent`` ones are never folded away."""

    title: str
    header: Sequence[str]
    rows: list[list[str]]
    urgent: bool = False


def as_text(comparison: Comparison, base: Side, head: Side) -> str:
    """For a terminal: the verdict first, then what got worse, what got better, and what was not compared and why."""
    parts = ["\n".join([f"{comparison.verdict.upper()}: {comparison.why}", *_extent(comparison, base, head)])]
    for section in _sections(comparison, base, head):
        shown = terminal.as_text([section.header, *section.rows])
        parts.append(f"{section.title}\n{indent(shown, '  ')}")
    return "\n\n".join(parts)


def as_markdown(comparison: Comparison, base: Side, head: Side) -> str:
    """For a pull request: the verdict and what got worse in sight, the rest folded away."""
    extent = "\n".join(f"* {line}" for line in _extent(comparison, base, head))
    parts = [f"### {SIGNS[comparison.verdict]} lrbench: {comparison.verdict}\n\n{comparison.why}\n\n{extent}\n"]
    for section in _sections(comparison, base, head):
        body = table(section.header, section.rows, left=2 if section.header == HEADER else len(section.header))
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
        f" {comparison.head_cells} in head ({head.name}), on {', '.join(comparison.metrics)}"
    ]
    lines += [side.missing for side in (base, head) if side.missing]
    if within := len(comparison.having("unchanged")):
        lines.append(f"{within} of {len(comparison.changes)} scores within their tolerance")
    if untested := sum(change.p is None for change in comparison.changes):
        lines.append(f"{untested} scores have too few seeds for a test: their tolerance alone decides (p: untested)")
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
    within = [change for change in comparison.having("unchanged") if change.worst_stands_out]
    for outcome, title in CHANGES.items():
        found.append(Section(title, HEADER, list(map(_row, comparison.having(outcome))), urgent=outcome == "worse"))
    found += [
        Section("One task stands out, the mean does not (not counted)", HEADER, list(map(_row, within))),
        Section("Not compared", NOTE_HEADER, left_out),
        Section("Compared, but good to know", NOTE_HEADER, compared),
        Section("Files set aside", ("file", "why"), files),
    ]
    return [section for section in found if section.rows]


def _row(change: Change) -> list[str]:
    return [
        change.method,
        f"{change.metric} ({change.suite})",
        number(change.base),
        number(change.head),
        _signed(change.effect),
        f"{change.tolerance:g}",
        _p(change.p),
        f"{change.pairs} on {change.tasks} tasks",
        f"{change.worst_task} {_signed(change.worst_effect)}",
    ]


def _signed(effect: float) -> str:
    return f"{'+' if effect > 0 else ''}{number(effect)}"


def _p(p: float | None) -> str:
    if p is None:
        return "untested"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p <= ALPHA else f"{p:.2f}"


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
