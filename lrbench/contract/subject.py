"""A method under check: its first fit, watched for what it draws, writes and touches."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from lrbench.catalogue.methods import load_method, split
from lrbench.catalogue.source import MethodInfo
from lrbench.contract.faults import SAMPLES
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.streaming.meter import Spent
from lrbench.task import SUITES, Task
from lrbench.view import TrainView

DIMS = (32, 40)  # sites of two sizes, so that a mistaken site shows in the shapes


@dataclass(frozen=True)
class Trial:
    """The first fit of a method: what it returned and what it did to its surroundings."""

    result: object
    seconds: float
    spent: Spent
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
        began = time.perf_counter()
        result = self.fit(self.method, view, self.task.fit_seed)
        return Trial(result, time.perf_counter() - began, view.spent, view.fingerprint() != data)

    def fit(self, method: Method, view: TrainView, seed: int) -> Dictionary:
        """Let a method fit and spend what it likes: one of the checks says what is too much."""
        with view.meter.account(math.inf):
            return method.fit(view, seed=seed)

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary of the first fit."""
        assert isinstance(self.trial.result, Dictionary)
        return self.trial.result

    def samples(self) -> Tensor:
        """Return inputs to try the dictionary on."""
        return self.view().head(SAMPLES)[0]


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
