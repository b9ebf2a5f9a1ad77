"""What a cell's training leaves on the disk while it goes on: its checkpoint and its log, beside the record to be."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lrbench.errors import LrbenchError, one_line
from lrbench.foreign import Problem, content_of
from lrbench.longrun.report import FIGURES, Progress, Report
from lrbench.record import Key
from lrbench.running.worker import tell
from lrbench.store import Store

if TYPE_CHECKING:
    from lrbench.longrun.keeper import Keeping

VERSION = 1
LARGEST = 1 << 36  # bytes of a file that is looked at
LINE_BYTES = 1_000_000  # of a checkpoint's first line
MOST_ROWS = 1000  # of a log: a fit that says nothing odd has 300
MOST_NOTES = 3  # of a cell
TELL_SECONDS = 0.3  # between two words to the run
COLUMNS = ("suite", "task", "method", "seed", "training", "step", "samples", *FIGURES)


@dataclass(frozen=True)
class Keep:
    """What is kept of a cell's training.

    Parameters
    ----------
    out
        The folder of the records.
    every
        Seconds between two checkpoints.
    log
        Whether a log is written.
    """

    out: str
    every: float
    log: bool = False


class Heading(BaseModel):
    """The first line of a checkpoint: whose it is, what was spent until then, and the log so far; the fit's own bytes follow.

    A checkpoint is never read as anything but bytes on this side: a method from outside may have made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: int
    identity: str
    threads: Annotated[int, Field(ge=1, le=1 << 16)]
    seconds: Annotated[float, Field(ge=0.0)]
    rows: Annotated[list[Report], Field(max_length=MOST_ROWS)]
    sha256: str


def say(key: Key, what: Progress | str) -> None:
    """Tell the run something of a cell, which it names: a job may have several."""
    tell("told", (key, one_line(what) if isinstance(what, str) else what))


def remove_log(keep: Keep, suite: str, key: Key) -> None:
    """Remove the log of an earlier training of a cell."""
    store = Store(keep.out)
    try:
        store.remove_beside(store.log(suite, key))
    except LrbenchError as error:  # a folder in its place ends no training
        say(key, str(error))


class TrainingFiles:
    """The checkpoint and the log of one cell; a `lrbench.longrun.keeper.Sink` that believes nothing of what it is told.

    Parameters
    ----------
    keep
        What is wanted.
    suite, key
        The cell.
    identity
        What a checkpoint must be of to go on from.
    threads
        What the fit may use; one that goes on keeps the number it began with, so that its sums come out the same.

    Attributes
    ----------
    spent
        Seconds of the training before this start.
    """

    def __init__(self, keep: Keep, suite: str, key: Key, identity: str, threads: int) -> None:
        self._keep, self._suite, self._key, self._identity = keep, suite, key, identity
        self._store = Store(keep.out)
        self._checkpoint, self._log = self._store.checkpoint(suite, key), self._store.log(suite, key)
        self._total = self._notes = 0
        self._next_save = self._next_word = 0.0
        self.threads, self.spent = threads, 0.0
        self._rows: list[Report] = []
        self._saved: bytes | None = None
        found = self._found()
        if isinstance(found, Problem):
            self.note(f"{found}; its training begins anew")
        elif found is not None:
            heading, self._saved = found
            self.threads, self.spent, self._rows = heading.threads, heading.seconds, [*heading.rows]
            tell("spent", self.spent)
            self.note(f"goes on from a checkpoint, after {self.spent:.0f} s of training")
        if self._saved is None:
            remove_log(keep, suite, key)
        self._began = time.monotonic()

    def keeping(self, n_samples: int) -> Keeping:
        """Return what the keeper of the fit is made of; the clock of the training starts here."""
        from lrbench.longrun.keeper import Keeping

        self._total, self._began = n_samples, time.monotonic()
        saved, self._saved = self._saved, None
        return Keeping(self, self._keep.every, self._keep.log, saved)

    def checkpoint(self, content: bytes) -> None:
        """Put a checkpoint in the place of the last one, unless that is younger than it should be."""
        now = time.monotonic()
        if now < self._next_save:
            return
        heading = Heading(
            version=VERSION,
            identity=self._identity,
            threads=self.threads,
            seconds=self.spent + now - self._began,
            rows=self._rows,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        try:
            self._store.write_beside(self._checkpoint, heading.model_dump_json().encode() + b"\n" + content)
            self._write_log()
        except LrbenchError as error:  # a full disk ends no training
            self.note(f"{error}; it goes on without")
        self._next_save = time.monotonic() + self._keep.every / 2

    def report(self, report: Report) -> None:
        """Take a row of the log, and tell the run a few times per second."""
        last = self._rows[-1].samples if self._rows else 0
        if report.row and last < report.samples <= self._total and len(self._rows) < MOST_ROWS:
            self._rows.append(report)
        if time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + TELL_SECONDS
            say(self._key, Progress(min(report.samples, self._total), self._total, report.loss, report.l0))

    def note(self, text: str) -> None:
        """Tell the user something."""
        self._notes += 1
        if self._notes <= MOST_NOTES:
            say(self._key, text)

    def end(self, ok: bool) -> None:
        """Write the log of a training that has ended, or remove what there is of a log that nobody wants any more."""
        if not self._keep.log:
            remove_log(self._keep, self._suite, self._key)
        elif ok or self._rows:
            try:
                self._write_log(even_empty=True)
            except LrbenchError as error:  # a full disk fails no cell
                self.note(f"{error}; its log is not all there")

    def _write_log(self, even_empty: bool = False) -> None:
        if not self._keep.log or not (self._rows or even_empty):
            return
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in self._rows:
            table.writerow([self._suite, *self._key, *(getattr(row, name) for name in COLUMNS[4:])])
        self._store.write_beside(self._log, text.getvalue().encode())

    def _found(self) -> tuple[Heading, bytes] | Problem | None:
        if not os.path.lexists(self._checkpoint):
            return None
        content = content_of(self._checkpoint, LARGEST)
        if isinstance(content, Problem):
            return content
        line, _, body = content[:LINE_BYTES].partition(b"\n")
        body = content[len(line) + 1 :]
        try:
            heading = Heading.model_validate_json(line)
        except ValidationError:
            return Problem(self._checkpoint, "is no checkpoint, or not all of one")
        if hashlib.sha256(body).hexdigest() != heading.sha256:
            return Problem(self._checkpoint, "is not all of a checkpoint, or was changed")
        if (heading.version, heading.identity) != (VERSION, self._identity):
            return Problem(self._checkpoint, "is of other code, another task or another installation")
        return heading, body
