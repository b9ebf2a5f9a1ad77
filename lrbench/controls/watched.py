"""How a training goes: the unexplained variance and the dead latents along its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lrbench.view import Keeper

POINTS = 50  # of a training's course, each the mean over a stretch of steps
EVERY = 3  # steps between two that are looked at
SEEN = {"fvu": "course_fvu", "dead": "course_dead"}  # what a training reports → what a record calls it


class Watched(Keeper):
    """Looks at every third step of a training; the training is the same.

    Parameters
    ----------
    n_samples
        The training's budget.
    n_latents
        The dictionary's width: the dead are told as a share of it.
    """

    def __init__(self, n_samples: int, n_latents: int) -> None:
        self._samples = n_samples
        self._unit = {"fvu": 1.0, "dead": float(n_latents)}
        self._seen: dict[str, list[list[float]]] = {name: [[] for _ in range(POINTS)] for name in SEEN}

    def report(self, step: int, samples: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """Look."""
        if step % EVERY:
            return
        told, point = figures(), min((samples - 1) * POINTS // self._samples, POINTS - 1)
        for name, stretches in self._seen.items():
            stretches[point].append(told[name] / self._unit[name])

    def course(self) -> dict[str, float]:
        """Return the means over the stretches, as ``course_fvu_1`` to ``course_fvu_50`` and the same for the share that is dead."""
        return {
            f"{SEEN[name]}_{place}": sum(values) / len(values) if values else math.nan
            for name, stretches in self._seen.items()
            for place, values in enumerate(stretches, 1)
        }
