"""Where the default hyper-parameters come from: a grid per method, all of one size, on seeds and tasks for choosing.

Every method's file declares its grid; `lrbench.tuning.choice` has the rule. A test holds the defaults in ``methods/`` to it on the
committed records.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrbench.catalogue.address import settings_text
from lrbench.catalogue.files import modules
from lrbench.catalogue.grid import grid_of, grid_text, settings_of
from lrbench.catalogue.methods import load_method, split
from lrbench.errors import LrbenchError
from lrbench.pages.markdown import table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.study import Block, Study
from lrbench.tuning.choice import LEVEL, TASKS, TIE, Row, best, blocks_of, holds, level, rows_of

METRICS = ("headline", "f1", "l0", "dead")
SETTINGS = 6  # per method, whatever it is: who tries more often wins more often
TWIN, TWIN_GRID = "topk_sae+anchored", {"anchor_weight": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}  # a twin has no file
METHODS = (  # in the order of the page
    "relu_sae", "gated_sae", "jumprelu_sae", "topk_sae", "batchtopk_sae", "matryoshka_sae", "transcoder", "crosscoder", TWIN,
    "acs_sae", "dictionary_learning", "ica", "kmeans", "ksvd", "nmf", "pca",
)  # fmt: skip


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return every setting of every grid, task by task."""
    return blocks_of([_address(method) for method in METHODS], seeds)


def grid(method: str) -> dict[str, tuple[Any, ...]]:
    """Return the grid of a method, or of the one twin that is swept."""
    return TWIN_GRID if method == TWIN else grid_of(modules("methods")[method])


def rows_by_method(records: Sequence[Record]) -> dict[str, list[Row]]:
    """Return, per method, its settings in the order of its grid, over the tasks and seeds that all of them have records of."""
    found = {}
    for method in METHODS:
        own = [record for record in records if _plain(record.method) == method]
        found[method] = rows_of(own, settings_of(grid(method)))
    return {method: rows for method, rows in found.items() if rows}


def declared(method: str, rows: Sequence[Row]) -> Row:
    """Return the row of the method's default, or raise `LrbenchError` where the grid does not hold it."""
    own = load_method(method).hyperparameters()
    for row in rows:
        if holds(own, row.setting):
            return row
    raise LrbenchError(f"{method}: its default is not in the grid of the sweep; add it, or take a setting of the grid")


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write a table per method, the winner in bold, and return the winners."""
    found = rows_by_method(records)
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    tasks = ", ".join(f"`{task}`" for task in TASKS if any(record.task == task for record in records))
    parts = [
        f"""# Where the default hyper-parameters come from

Written by `lrbench study sweep --suite {suite}` from records: every setting of a grid, trained in the `{suite}` suite on validation seeds
that no suite uses ({seeds}) and on {tasks}.
A row is the mean over the cells that all settings of the method have.

Every method has {SETTINGS} settings. None of the tasks is of a suite that makes a leaderboard.

In bold, the winner: the best F1 among the settings whose headline is within {LEVEL} of the best. *default* marks the method's own
values. They stay while they are level with the winner: their headline within {LEVEL} of the best, their F1 within {TIE} of the
winner's, which is what two processors differ by. Anchored twins take the plain method's setting; their anchor weight comes from the
TopK SAE's.
"""
    ]
    for method, rows in found.items():
        winner, default = best(rows), declared(method, rows)
        lines = []
        for row in rows:
            cells = [value if isinstance(value, str) else f"{value:g}" for value in row.setting.values()]
            cells += [f"{row.scores[name]:.3f}" for name in METRICS]
            cells = [f"**{cell}**" if row is winner else cell for cell in cells]
            lines.append([*cells, "*default*" if row is default else ""])
        heads = [*grid(method), "headline", "F1", "L0", "dead", ""]
        parts.append(f"## {method}\n\nMean of {rows[0].cells} cells.\n\n{table(heads, lines, left=0)}")
    path.write_text("\n".join(parts), encoding="utf-8")
    winners = [
        [method, settings_text(best(rows).setting), _against_declared(declared(method, rows), rows)]
        for method, rows in found.items()
    ]
    return as_text([["method", "winner", "the default"], *winners])


def _against_declared(default: Row, rows: Sequence[Row]) -> str:
    if default is best(rows):
        return "is the winner"
    return f"{settings_text(default.setting)} is {'' if level(default, rows) else 'NOT '}level with it"


def _address(method: str) -> str:
    base, _, twin = split(method)
    return f"{base}{grid_text(grid(method))}{f'+{twin}' if twin else ''}"


def _plain(method: str) -> str:
    """The method without its settings."""
    base, _, twin = split(method)
    return f"{base}+{twin}" if twin else base


STUDY = Study(plan=plan, write=write)
