"""How a run shows itself: a live bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as LiveDisplay
from rich.table import Column
from rich.text import Text

from lrbench.longrun.report import Progress
from lrbench.record import Record
from lrbench.running.cell import Cell
from lrbench.store import Problem, lines_of

LINE_SECONDS = 5.0
LONG_LINE_SECONDS = 60.0  # between two lines while no cell ends
NAMES_SHOWN = 3


@dataclass
class _Training:
    """How far a cell is, and where it was when it first said so, which may be the middle."""

    began: float
    first: Progress
    now: Progress

    def __str__(self) -> str:
        """Say it in a few words; there is no speed yet after the first report."""
        report, seconds = self.now, time.monotonic() - self.began
        words = [f"{report.samples / max(report.total, 1):.0%}"]
        if (done := report.samples - self.first.samples) > 0:
            words += [f"{done / seconds:,.0f} samples/s"]
        words += [
            f"{name} {value:.4g}" for name, value in (("loss", report.loss), ("L0", report.l0)) if value is not None
        ]
        if done > 0:
            words += [f"{_clock(seconds / done * (report.total - report.samples))} left"]
        return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Bar(LiveDisplay):
    """The bar, and under it a line for each cell that trains long enough to say how far it is."""

    def __init__(self, trainings: dict[str, _Training], *columns: ProgressColumn, **options: Any) -> None:
        self.trainings = trainings
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for name, training in [*self.trainings.items()]:
            yield Text(f"  {name}  {training}", style="dim", no_wrap=True, overflow="ellipsis")


class RunProgress:
    """Shows a run on stderr; a `lrbench.running.runner.Reporter` and a context manager."""

    def __init__(self) -> None:
        self.stored = 0
        self.ended = 0
        self.failed = 0
        self.total = 0
        self._running: dict[str, None] = {}
        self._trainings: dict[str, _Training] = {}
        self._began = self._last_line = time.monotonic()
        self._console = Console(stderr=True)
        self._bar = _Bar(
            self._trainings,
            TextColumn("[bold]cells"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("[red]{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[running]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=self._console,
            expand=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._bar.disable:  # older versions of rich print an empty line for a bar that was never shown
            self._bar.stop()

    def planned(self, todo: Sequence[Cell], done: int, problems: Sequence[Problem]) -> None:
        """Say what lies ahead."""
        for line in lines_of(problems, ""):
            self._say(line)
        self.stored, self.total = done, len(todo)
        where = f" on {todo[0].provenance.device}" if todo else ""
        self._say(f"{done + self.total} cells: {done} stored already, {self.total} to run{where}")
        if self.total:
            self._bar.add_task("", total=self.total, failed=0, running="starting workers")
            self._bar.start()

    def started(self, cell: Cell) -> None:
        """Show a cell among the running ones."""
        self._running[cell.id] = None
        self._update()

    def told(self, cell: Cell, what: Progress | str) -> None:
        """Show how far a cell is, or print its line."""
        if isinstance(what, str):
            self._say(f"{cell.id}: {what}")
            return
        training = self._trainings.setdefault(cell.id, _Training(time.monotonic(), what, what))
        training.now = what
        if self._bar.disable and time.monotonic() - self._last_line >= LONG_LINE_SECONDS:
            self._last_line = time.monotonic()
            self._say(f"{self.ended}/{self.total} cells, {cell.id}: {training}")

    def recorded(self, record: Record) -> None:
        """Count a cell; name it at once when it failed."""
        self._running.pop(record.id, None)
        self._trainings.pop(record.id, None)
        self.ended += 1
        if record.status == "failed":
            self.failed += 1
            self._say(f"FAILED {record.id}: {record.reason}")
        self._update()

    def apart(self, cells: Sequence[Cell], reason: str) -> None:
        """Say that cells which shared a program run again, alone."""
        for cell in cells:
            self._running.pop(cell.id, None)
            self._trainings.pop(cell.id, None)
        self._say(f"one program for {len(cells)} cells failed, so they run alone ({cells[0].id} and others): {reason}")
        self._update()

    def _update(self) -> None:
        names = [*self._running][:NAMES_SHOWN]
        more = len(self._running) - len(names)
        running = ", ".join(names) + (f" and {more} more" if more else "")
        if not self._bar.disable:
            self._bar.update(self._bar.task_ids[0], completed=self.ended, failed=self.failed, running=escape(running))
            return
        now = time.monotonic()
        if self.ended == self.total or now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            left = (now - self._began) / max(self.ended, 1) * (self.total - self.ended)
            eta = f", about {left:.0f} s left" if left and self.ended else ""
            now_running = f", running {running}" if running else ""
            self._say(f"{self.ended}/{self.total} cells, {self.failed} failed{eta}{now_running}")

    def _say(self, line: str) -> None:
        if self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
