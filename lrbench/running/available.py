"""Which worlds of a run can be had here, and what they rest on, made before workers ask for it."""

from __future__ import annotations

from collections.abc import Sequence

from lrbench.catalogue.tasks import load_task
from lrbench.errors import Unavailable
from lrbench.running.cell import Cell, unavailable
from lrbench.running.pool import Finished


def parted(cells: Sequence[Cell]) -> tuple[list[Cell], list[Finished]]:
    """Return the cells that can run here, and the others' ends: records that say what is missing."""
    absent = absent_worlds(cells)
    gone = [cell for cell in cells if cell.task in absent]
    ends = [Finished((cell,), [unavailable(cell, absent[cell.task])], 0.0, None) for cell in gone]
    return [cell for cell in cells if cell.task not in absent], ends


def absent_worlds(cells: Sequence[Cell]) -> dict[str, str]:
    """Make what the cells' worlds rest on, before workers ask for it; return the tasks whose worlds cannot be had here, with the reason."""
    absent: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for cell in cells:
        if (cell.task_source, cell.suite) in seen:
            continue
        seen.add((cell.task_source, cell.suite))
        task = load_task(cell.task_source, cell.suite, cell.seed, cell.salt)
        if task.source is None:
            continue
        absent[cell.task] = task.source.missing(task.spec.world)
        if not absent[cell.task]:
            try:
                task.source.prepare(task.spec.world)
            except Unavailable as why:
                absent[cell.task] = str(why)
    return {name: reason for name, reason in absent.items() if reason}
