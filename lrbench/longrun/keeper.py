"""The keeper of a fit that is being recorded: it hands states and reports on, each only when it is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from lrbench.errors import LrbenchError
from lrbench.longrun.report import FIGURES, Report
from lrbench.longrun.state import packed, unpacked
from lrbench.seeds import global_generators, set_global_generators
from lrbench.view import Keeper, TrainView

ROWS = 300  # of a log, evenly over the fit's budget
REPORT_SECONDS = 0.5  # between two reports that are no rows
SMALL = 1 << 26  # bytes that every checkpoint may have
COPIES = 16  # of the budget's parameters in float32, that a checkpoint may have: a fit of one training has three


class Sink(Protocol):
    """Where a keeper's words go: to the disk, or to the other side of the boundary."""

    def checkpoint(self, content: bytes) -> None:
        """Take a checkpoint; it stands for all that was reported before."""

    def report(self, report: Report) -> None:
        """Take a report."""

    def note(self, text: str) -> None:
        """Take a line for the user."""


@dataclass(frozen=True)
class Keeping:
    """What is to be kept of a fit.

    Parameters
    ----------
    sink
        Where it goes.
    every
        Seconds between checkpoints.
    rows
        Whether rows of a log are wanted.
    saved
        The checkpoint to go on from.
    """

    sink: Sink
    every: float
    rows: bool = False
    saved: bytes | None = field(default=None, repr=False)

    def keeper(self, view: TrainView) -> Recorder:
        """Return the keeper of a fit to a view."""
        return Recorder(self, view.budget.n_samples, largest_checkpoint(view))


def largest_checkpoint(view: TrainView) -> int:
    """Return how many bytes a checkpoint of a fit to this view may have."""
    latents, width = view.budget.n_latents, view.d_in + view.d_out
    return max(SMALL, COPIES * 4 * (latents * (width + 4) + width))


@dataclass
class _Training:
    """One training of a fit: what it came with, and how to ask for what it has come to."""

    given: dict[str, Any] | None
    samples: int
    state: Callable[[], dict[str, Any]] | None = None

    def to_save(self) -> dict[str, Any]:
        return {"samples": self.samples, "state": self.given if self.state is None else self.state()}


class Recorder(Keeper):
    """Keeps a fit that may consist of several trainings, one after the other.

    A checkpoint holds the end of every finished training, the state of the current one, and the global generators. A fit that is
    started again runs through the same trainings: each is given the state that it had.

    Parameters
    ----------
    keeping
        What is wanted, and where it goes.
    total
        Samples of the fit's budget.
    limit
        Bytes that a checkpoint may have; a fit that needs more is not kept, and the user is told.
    """

    def __init__(self, keeping: Keeping, total: int, limit: int) -> None:
        self._keeping, self._sink, self._total, self._limit = keeping, keeping.sink, total, limit
        saved = {} if keeping.saved is None else unpacked(keeping.saved)
        self._coming: list[dict[str, Any]] = saved.get("trainings", [])
        self._generators = saved.get("generators")
        self._ended: list[bytes] = []
        self._ended_samples = 0
        self._now: _Training | None = None
        self._next_save = time.monotonic() + keeping.every
        self._next_report = time.monotonic() + REPORT_SECONDS
        self._gave_up = False

    def __reduce__(self) -> tuple[type[Keeper], tuple[()]]:
        """Make a copy, such as that of a loader's process, one that keeps nothing."""
        return Keeper, ()

    def saved(self) -> dict[str, Any] | None:
        """Begin a training: return the state to go on from, or None at a fresh start."""
        if self._now is not None:
            self._end(self._now)
        came: dict[str, Any] = self._coming.pop(0) if self._coming else {"samples": 0, "state": None}
        self._now = _Training(came["state"], came["samples"])
        if not self._coming and self._generators is not None:
            set_global_generators(self._generators)
            self._generators = None
        return self._now.given

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep a state if it is time to."""
        if self._now is None:
            raise LrbenchError(
                "a state is saved before the training has begun: ask view.saved() first, it says where to go on"
            )
        self._now.state = state
        if time.monotonic() < self._next_save or self._gave_up:
            return
        trainings = [unpacked(each) for each in self._ended]
        content = packed({"trainings": [*trainings, self._now.to_save()], "generators": global_generators()})
        if self._fits(len(content)):
            self._sink.checkpoint(content)
        self._next_save = time.monotonic() + self._keeping.every

    def report(self, step: int, samples: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """Tell of a step if it is time to."""
        training = 0 if self._now is None else len(self._ended)
        if self._now is None:
            self._now = _Training(None, 0)
        spent, self._now.samples = self._ended_samples + self._now.samples, samples
        samples += self._ended_samples
        row = self._keeping.rows and samples * ROWS // self._total > spent * ROWS // self._total
        if not row and time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + REPORT_SECONDS
        told: dict[str, Any] = {name: float(value) for name, value in figures().items()}
        if not told.keys() <= set(FIGURES):
            raise LrbenchError(f"reported {', '.join(map(str, told))}: expected some of {', '.join(FIGURES)}")
        finite = {name: value for name, value in told.items() if isfinite(value)}
        self._sink.report(Report(training=training, step=step, samples=samples, row=row, **finite))

    def _end(self, training: _Training) -> None:
        self._ended_samples += training.samples
        self._ended.append(b"" if self._gave_up else packed(training.to_save()))
        self._fits(sum(map(len, self._ended)))

    def _fits(self, size: int) -> bool:
        if size > self._limit and not self._gave_up:
            self._gave_up, self._ended = True, [b"" for _ in self._ended]
            self._sink.note(
                f"its checkpoint has {size} bytes, more than {self._limit}: none is kept, a restart begins anew"
            )
        return not self._gave_up
