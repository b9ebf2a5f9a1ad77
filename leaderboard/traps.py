"""Trap cells into frames: who gets out of which minimum, beside what they find in the same worlds from their own start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrbench.pages.interval import interval

from .compile import Board
from .means import natural, seed_means

if TYPE_CHECKING:
    import pandas as pd

OWN = "own"  # how the levels begin that start where the method always does


def trap_columns(cells: pd.DataFrame) -> list[str]:
    """Return the trap tasks, world by world, each followed by the control in the same worlds.

    Parameters
    ----------
    cells
        A board's ``traps``.
    """
    worlds: dict[str, list[str]] = {}
    for task, own in cells.groupby("task"):
        worlds.setdefault(str(own.sort_values("seed")["world"].iloc[0]), []).append(str(task))
    groups = [sorted(tasks, key=lambda task: (is_control(task), natural(task))) for tasks in worlds.values()]
    return [task for group in sorted(groups, key=lambda group: (-len(group), group)) for task in group]


def escapes(cells: pd.DataFrame) -> pd.DataFrame:
    """Return ``method, task, mean, half`` of the escape over seeds; a task counts with all of its method's seeds only.

    Methods stand by their plain name, each followed by its twins.
    """
    import pandas as pd

    rows = []
    for method in sorted(cells["method"].unique(), key=lambda name: name.split("+")):
        own = cells[cells["method"] == method]
        seeds = sorted(own["seed"].unique())
        for task in trap_columns(cells):
            span = interval(seed_means(own[own["task"] == task], "escape", seeds)[0])
            rows.append({"method": method, "task": task, "mean": span.mean, "half": span.half})
    frame: pd.DataFrame = pd.DataFrame(rows)
    return frame


def level_of(task: str) -> str:
    """Return how a column is called."""
    name = task.split("/", 1)[-1]
    if not is_control(task):
        return name
    world = name.removeprefix(OWN).removeprefix("-")
    return f"own start ({world})" if world else "own start"


def is_control(task: str) -> bool:
    """Whether a task starts where the method always does."""
    return task.split("/", 1)[-1].startswith(OWN)


def heat(board: Board) -> tuple[list[str], list[str], list[list[float]]]:
    """Return the heat map: methods, columns and the mean escape of each, NaN where there is none."""
    shown, columns = escapes(board.traps), trap_columns(board.traps)
    grid = shown.pivot(index="method", columns="task", values="mean")
    methods = list(dict.fromkeys(shown["method"]))
    values = [[float(grid.loc[method, task]) for task in columns] for method in methods]
    return methods, [level_of(task) for task in columns], values
