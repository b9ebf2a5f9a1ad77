"""How well a reading tells when a feature is there: F1 at the best threshold >= 0, chosen on one half of the samples, counted on the other.

Both halves take their turn at choosing and the counts are added up: every sample counts once, and none has chosen the threshold that
it is judged by. Equal readings pass as one group, since no threshold parts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lrbench.world import SparseFeatures


class Detector:
    """A latent's reading, sorted once for all features that it may tell of.

    Parameters
    ----------
    reading
        What the latent reads on every sample, shape (sample,). It tells of a feature where it is at least the threshold, which is never below 0.

    Examples
    --------
    >>> reading = Detector(np.array([3.0, 1.0, 4.0, -1.0]))
    >>> reading.f1(np.array([True, False, True, False])), reading.f1(np.array([True, True, True, False]))
    (1.0, 0.8)
    """

    def __init__(self, reading: NDArray[Any]) -> None:
        middle = len(reading) // 2
        self._halves = (slice(0, middle), slice(middle, None))
        self._sorted = [Sorted(reading[half]) for half in self._halves]

    def f1(self, shown: NDArray[Any]) -> float:
        """Return the F1 for a feature, from whether each sample shows it, shape (sample,); 0 where none does."""
        parts = [shown[half] for half in self._halves]
        hits, total = 0, int(shown.sum())
        for chosen, counted in ((0, 1), (1, 0)):
            cut, _ = self._sorted[chosen].best(parts[chosen])
            fires = self._sorted[counted].at_least(cut)
            hits += int(parts[counted][fires].sum())
            total += len(fires)
        return 2.0 * hits / total if hits else 0.0


class Sorted:
    """The positive ones of some readings, from the largest down."""

    def __init__(self, reading: NDArray[Any]) -> None:
        positive = np.flatnonzero(reading > 0)
        self._order = positive[np.argsort(-reading[positive])]
        self._falling = np.append(reading[self._order].astype(np.float64), 0.0)
        self._rank = np.arange(1, len(self._order) + 1)
        self._inside = np.flatnonzero(
            self._falling[:-1] == self._falling[1:]
        )  # where a group of equal readings goes on

    def best(self, shown: NDArray[Any]) -> tuple[float, float]:
        """Return the threshold with the best F1, and that F1.

        The threshold is halfway from the last reading that passes to the next one, and infinite where the reading detects nothing.
        """
        hits = np.cumsum(shown[self._order])
        if not len(hits) or not hits[-1]:
            return float("inf"), 0.0
        f1 = 2.0 * hits / (self._rank + np.count_nonzero(shown))
        f1[self._inside] = 0.0
        last = int(f1.argmax())
        return float(self._falling[last] + self._falling[last + 1]) / 2.0, float(f1[last])

    def at_least(self, cut: float) -> NDArray[Any]:
        """Return the samples whose reading is at least a threshold > 0."""
        return self._order[: int(np.searchsorted(-self._falling[:-1], -cut, side="right"))]


class Shown:
    """Which samples show which feature."""

    def __init__(self, features: SparseFeatures, n_features: int) -> None:
        self._rows = features.rows[torch.argsort(features.indices, stable=True)].numpy()
        counts = torch.bincount(features.indices, minlength=n_features)
        self._ends, self._size = [0, *counts.cumsum(0).tolist()], len(features)

    def samples(self, feature: int) -> NDArray[Any]:
        """Return for every sample whether it shows a feature."""
        shown = np.zeros(self._size, dtype=bool)
        shown[self._rows[self._ends[feature] : self._ends[feature + 1]]] = True
        return shown
