"""`Meter`: how many samples have left the views of a fit, and the end of a fit that takes more than it may."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lrbench.errors import LrbenchError

FREE_HEAD = 4096  # samples through `TrainView.head` that cost nothing: enough to set a threshold
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Spent(BaseModel):
    """What a fit took of its view, in samples, repetitions included.

    Parameters
    ----------
    batches
        In batches, those that an interrupted training saw before included.
    head
        Through `TrainView.head`, and those that were looked at again (`TrainView.look_again`).
    free
        How many through ``head`` cost nothing. A fit that takes more pays for all of them.
    budget
        What it was allowed.

    Examples
    --------
    >>> Spent(batches=9600, head=4096, free=4096, budget=9600).share, Spent(batches=0, head=4800, free=4096, budget=9600).share
    (1.0, 0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batches: Count
    head: Count
    free: Count
    budget: Annotated[int, Field(ge=1, lt=2**63)]

    @property
    def charged(self) -> int:
        """Samples that count against the budget."""
        return charge(self.batches, self.head, self.free)

    @property
    def share(self) -> float:
        """What counts, as a share of the budget."""
        return self.charged / self.budget


def charge(batches: int, head: int, free: int = FREE_HEAD) -> int:
    """Return how many samples count against the budget: calibration is free, learning from ``head`` is not."""
    return batches + (head if head > free else 0)


class Meter:
    """Counts the samples that leave a view and all views derived from it, in this process and in its forks.

    A pickled copy counts for itself.
    """

    def __init__(self) -> None:
        self._taken = get_context("fork").Array("q", 2)  # in batches, through head; a loader's workers add to it
        self._allowed: float | None = None  # None while no fit runs

    def __reduce__(self) -> tuple[type[Meter], tuple[()]]:
        return Meter, ()

    @contextmanager
    def account(self, allowed: float) -> Iterator[None]:
        """Count one fit from 0 on, and let it take so many samples; a fit inside of it spends from the same account."""
        if self._allowed is not None:
            yield
            return
        with self._taken.get_lock():
            self._taken[:] = [0, 0]
        self._allowed = allowed
        try:
            yield
        finally:
            self._allowed = None

    def take(self, *, batches: int = 0, head: int = 0) -> None:
        """Count samples that are about to leave.

        Raises
        ------
        LrbenchError
            Where a fit asks for more than it may take; nothing is counted then.
        """
        allowed = math.inf if self._allowed is None else self._allowed
        with self._taken.get_lock():
            taken = self._taken[0], self._taken[1]
            if charge(taken[0] + batches, taken[1] + head) > allowed:
                raise LrbenchError(
                    f"fit asked for {batches + head} samples beyond its budget of {allowed:.0f}: it has taken {taken[0]} in batches"
                    f" and {taken[1]} through head(); one pass of view.batches() spends it all"
                )
            self._taken[:] = [taken[0] + batches, taken[1] + head]

    def spent(self, budget: int) -> Spent:
        """Return what has been counted since the last fit began, or since the view was made where there was none."""
        batches, head = self._taken[:]
        return Spent(batches=batches, head=head, free=FREE_HEAD, budget=budget)
