"""What a tuning came to, and its page: every number in it comes from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from lrbench.catalogue import address
from lrbench.catalogue.grid import Grid, settings_of
from lrbench.catalogue.methods import split
from lrbench.errors import LrbenchError
from lrbench.pages.markdown import code, number, table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.tuning.choice import LEVEL, TIE, Row, best, holds, level, rows_of
from lrbench.tuning.figure import save_figure

SHOWN = {"headline": "headline", "f1": "F1", "l0": "L0", "fvu": "FVU"}


@dataclass(frozen=True)
class Outcome:
    """A method's grid with its scores, and the setting that the rule chooses.

    Parameters
    ----------
    records
        Of every cell of the grid.
    grid
        From `lrbench.catalogue.grid.grid_of`.
    """

    records: Sequence[Record]
    grid: Grid

    @cached_property
    def rows(self) -> list[Row]:
        """Every setting, or `LrbenchError` where no cell has a score at all of them."""
        found = rows_of(self.records, settings_of(self.grid))
        if not found:
            raise LrbenchError(
                "there is no task and seed at which every setting of the grid has a score: nothing to choose by"
            )
        return found

    @cached_property
    def default(self) -> Row | None:
        """The setting that the method has now, None where the grid does not hold it."""
        return next((row for row in self.rows if not self._differs(row)), None)

    @cached_property
    def chosen(self) -> Row:
        """The default while it is level with the best setting, else that."""
        stays = self.default is not None and level(self.default, self.rows)
        return self.default if stays and self.default is not None else best(self.rows)

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """All hyper-parameters that the chosen setting was trained with."""
        return dict(self._record(self.chosen).hyperparameters)

    @property
    def changes(self) -> dict[str, Any]:
        """Those of them that are not what the method has now."""
        return {name: self.hyperparameters[name] for name in self._differs(self.chosen)}

    @property
    def told(self) -> float:
        """The mean L0 that the method was told."""
        worlds = [record.world for record in self.records if record.status == "ok"]
        told = [(world["told_l0"], world["mean_l0"]) for world in worlds]
        return fmean(float(multiple or 1.0) * float(mean or 0.0) for multiple, mean in told)

    def cells(self) -> list[list[str]]:
        """The settings as a table, its header first."""
        lines = [[*self.grid, *SHOWN.values(), ""]]
        for row in self.rows:
            values = [address.text_of(value) for value in row.setting.values()]
            marks = [mark for mark, marked in (("chosen", self.chosen), ("default", self.default)) if row is marked]
            lines.append([*values, *(number(row.scores[name]) for name in SHOWN), ", ".join(marks)])
        return lines

    def _record(self, row: Row) -> Record:
        return next(r for r in self.records if r.status == "ok" and holds(r.hyperparameters, row.setting))

    def _differs(self, row: Row) -> list[str]:
        """The names in a row's address, which leaves out what is a default."""
        method = self._record(row).method
        inside = split(method)[1]
        return [] if inside is None else [*address.settings(inside, method)[0]]


def write(outcome: Outcome, method: str, suite: str, path: Path) -> str:
    """Write the page of a tuning, with its figure in ``figures/`` beside it, and return the table for a terminal."""
    save_figure(
        outcome.rows, outcome.chosen, outcome.default, outcome.told, path.parent / "figures" / f"{path.stem}.png"
    )
    header, *rows = outcome.cells()
    shown = [[f"**{cell}**" if cell and row[-1].startswith("chosen") else cell for cell in row] for row in rows]
    seeds = ", ".join(map(str, sorted({record.seed for record in outcome.records})))
    tasks = ", ".join(code(task) for task in dict.fromkeys(record.task for record in outcome.records))
    path.write_text(
        f"""# {code(method)}, tuned

Written by `lrbench tune` from records: every setting of the method's grid, trained in the suite `{suite}` on validation seeds that no suite
uses ({seeds}) and on tasks of no leaderboard: {tasks}.

A row is the mean over the {outcome.rows[0].cells} cells that all settings have. The rule of choice is that of the catalogue's defaults: the best
F1 among the settings whose headline is within {LEVEL} of the best; the default stays while its headline is within {LEVEL} of the best
and its F1 within {TIE} of that setting's. There are {len(rows)} settings: who tries more often wins more often, and every method of
the catalogue has six.

{table(header, shown, left=0)}
![Headline and F1 of every setting against its mean L0](figures/{path.stem}.png)
""",
        encoding="utf-8",
    )
    return as_text([header, *rows])
