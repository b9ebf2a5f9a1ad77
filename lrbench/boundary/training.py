"""One training, the same on both sides of the boundary: a clean process, the method's settings, its fit, and what it took."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.method import Method
    from lrbench.streaming.meter import Spent
    from lrbench.view import TrainView


@dataclass(frozen=True)
class Fitted:
    """A dictionary, how it came about, and the method, to train again; memory (10^6 bytes) only where another process fitted."""

    dictionary: Dictionary
    spent: Spent
    hyperparameters: dict[str, Any]
    seconds: float
    method: Method
    peak_mb: float | None = None


def settings_of(method: Method) -> dict[str, Any]:
    """Return a method's hyper-parameters, or raise `LrbenchError` for one that no record can hold."""
    from lrbench.contract.faults import settings_fault

    values = method.hyperparameters()
    fault = settings_fault(values)
    if fault is not None:
        raise LrbenchError(fault)
    return values


def fit(method: Method, view: TrainView, seed: int, threads: int) -> tuple[Dictionary, Spent, float]:
    """Return what a method makes of a view, the samples and the seconds that it took, or raise what it raises.

    Raises
    ------
    LrbenchError
        For what is no dictionary, or a view that was written into.
    """
    import torch

    from lrbench.contract.faults import VIEW_CHANGED, as_dictionary

    given = view.fingerprint()
    torch.set_num_threads(threads)  # for training alone: the engine's sums do not depend on it, a score's may
    began = time.perf_counter()
    returned = method.fit(view, seed=seed)
    if view.device.type == "cuda":
        torch.cuda.synchronize()
    seconds, spent = time.perf_counter() - began, view.spent
    if view.fingerprint() != given:
        raise LrbenchError(VIEW_CHANGED)
    return as_dictionary(returned), spent, seconds


def reset_process(seed: int) -> None:
    """Undo what an earlier cell in this process may have changed: a record must not depend on its neighbours."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (for what a method's file draws on import)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)
