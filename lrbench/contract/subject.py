"""A method under check: its first fit, watched for what it draws, writes and touches."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from unittest.mock import patch

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from lrbench.catalogue.methods import load_method, split
from lrbench.catalogue.source import MethodInfo
from lrbench.contract.faults import SAMPLES
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.task import SUITES, Task
from lrbench.view import TrainView

DIMS = (32, 40)  # sites of two sizes, so that a mistaken site shows in the shapes


@dataclass
class Meter:
    """Samples that left the views: drawn as batches, and read with `TrainView.head`."""

    drawn: int = 0
    looked: int = 0


@dataclass(frozen=True)
class Trial:
    """The first fit of a method: what it returned and what it did to its surroundings."""

    result: object
    seconds: float
    meter: Meter
    view_changed: bool


class Subject:
    """A method under check, with what several checks look at: its first fit.

    Parameters
    ----------
    info
        From `lrbench.catalogue.methods.select_methods`.

    Raises
    ------
    LrbenchError
        When its file does not import or declares no method.
    """

    def __init__(self, info: MethodInfo) -> None:
        self.info = info
        self.method = self.fresh()
        spec = SUITES["smoke"].scale.task(dims=DIMS)
        self.task, self.other_task = (Task("check/uneven", "smoke", seed, spec) for seed in (0, 1))
        self.salted_task = replace(self.task, salt=secrets.token_hex())

    def fresh(self) -> Method:
        """Return the method from a new import of its file, so that nothing of an earlier fit can be left in it."""
        settings = split(self.info.source)[1]
        brackets = "" if settings is None else f"[{settings}]"
        return load_method(f"{self.info.path}{brackets}{'+' if self.info.twin else ''}{self.info.twin}")

    def view(self, task: Task | None = None, device: str = "cpu") -> TrainView:
        """Return a new view for the method's pair."""
        return (task or self.task).view(self.method.pair, device)

    @cached_property
    def trial(self) -> Trial:
        """The first fit, with the seed that a run would give, watched."""
        view = self.view()
        data = view.fingerprint()
        with metered() as meter:
            began = time.perf_counter()
            result = self.method.fit(view, seed=self.task.fit_seed)
            seconds = time.perf_counter() - began
        return Trial(result, seconds, meter, view.fingerprint() != data)

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary of the first fit."""
        assert isinstance(self.trial.result, Dictionary)
        return self.trial.result

    def samples(self) -> Tensor:
        """Return inputs to try the dictionary on."""
        return self.view().head(SAMPLES)[0]


@contextmanager
def metered() -> Iterator[Meter]:
    """Count what any view of this process shows while the context lasts."""
    meter, head, batches = Meter(), TrainView.head, TrainView._batches

    def counted_head(view: TrainView, n_samples: int) -> tuple[Tensor, Tensor]:
        shown = head(view, n_samples)
        meter.looked += len(shown[0])
        return shown

    def counted_batches(view: TrainView, size: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(view, size, first):
            meter.drawn += len(batch[0])
            yield batch

    with patch.object(TrainView, "head", counted_head), patch.object(TrainView, "_batches", counted_batches):
        yield meter


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as a run does: sums then come out in the same order."""
    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def bits(tensor: Tensor) -> bytes:
    """Return a tensor's bytes: NaN equals itself, and 0.0 differs from -0.0."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
