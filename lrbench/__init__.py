"""lrbench, the Linear Representation Bench: which sparse dictionary learning method recovers the true features?

Importing this package loads no torch; names are fetched from their modules when they are first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# OpenMP reads this when torch loads it: threads that wait by spinning would keep a core from the engine's kernels.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from lrbench import activation as activation
    from lrbench import theory as theory
    from lrbench.borrowed.task import task_from_sae_lens as task_from_sae_lens
    from lrbench.catalogue.methods import load_method as load_method
    from lrbench.catalogue.tasks import load_task as load_task
    from lrbench.dictionary import Dictionary as Dictionary
    from lrbench.errors import LrbenchError as LrbenchError
    from lrbench.errors import NotApplicable as NotApplicable
    from lrbench.method import Method as Method
    from lrbench.metric_table import METRICS as METRICS
    from lrbench.scoring.metrics import evaluate as evaluate
    from lrbench.scoring.metrics import score as score
    from lrbench.sdl import SDL as SDL
    from lrbench.store import load_records as load_records
    from lrbench.structure import WorldSpec as WorldSpec
    from lrbench.task import Task as Task
    from lrbench.view import TrainView as TrainView
    from lrbench.world import World as World

HOME = {
    "Dictionary": "dictionary",
    "LrbenchError": "errors",
    "METRICS": "metric_table",
    "Method": "method",
    "NotApplicable": "errors",
    "SDL": "sdl",
    "Task": "task",
    "TrainView": "view",
    "World": "world",
    "WorldSpec": "structure",
    "evaluate": "scoring.metrics",
    "load_method": "catalogue.methods",
    "load_records": "store",
    "load_task": "catalogue.tasks",
    "score": "scoring.metrics",
    "task_from_sae_lens": "borrowed.task",
}
_MODULES = ("activation", "theory")
__all__ = [*sorted(HOME), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"lrbench.{name}")
    if name not in HOME:
        raise AttributeError(f"module 'lrbench' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"lrbench.{HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
