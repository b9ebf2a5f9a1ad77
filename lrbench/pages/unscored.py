"""The cells of a study that ended without a score, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrbench.pages.markdown import code, text

if TYPE_CHECKING:
    from lrbench.record import Record

REASONS_SHOWN = 8
TASKS_SHOWN = 3  # of those that share a reason


def unscored(records: Sequence[Record]) -> list[str]:
    """Return a line of a list for each method, status and reason of the records without a score, the most frequent first; none without such a record.

    After `REASONS_SHOWN` of them a last line counts the others.
    """
    tasks: dict[tuple[str, str, str], list[str]] = {}
    for record in records:
        if record.status != "ok":
            tasks.setdefault((record.method, record.status, record.reason or ""), []).append(record.task)
    lines = [
        f"* {code(method)}, {len(where)} cell{'s' * (len(where) > 1)} {status} ({_some(where)}): {text(why)}"
        for (method, status, why), where in sorted(tasks.items(), key=lambda item: -len(item[1]))
    ]
    more = [f"* and {len(lines) - REASONS_SHOWN} more reasons"] if len(lines) > REASONS_SHOWN else []
    return [*lines[:REASONS_SHOWN], *more]


def _some(tasks: Sequence[str]) -> str:
    """Return the first of some tasks, each once, and how many more there are."""
    names = list(dict.fromkeys(tasks))
    more = f" and {len(names) - TASKS_SHOWN} more tasks" if len(names) > TASKS_SHOWN else ""
    return ", ".join(map(code, names[:TASKS_SHOWN])) + more
