"""Independent events with given rates, drawn in time proportional to what occurs."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

BUCKETS = 64  # per event, of a table that finds which one a random number hits: few buckets hold the end of one


class Events:
    """Independent events with given rates, made ready for many draws.

    A Poisson process with intensity -log(1-p) per cell hits a cell at least once with probability exactly p, so hits are thrown as a
    whole and double ones merged: no matrix of rows and events.

    Parameters
    ----------
    rates
        The probability of every event.
    """

    def __init__(self, rates: Float[Tensor, " event"]) -> None:
        self._n = len(rates)
        self._cumulative = (-torch.log1p(-rates.double())).cumsum(0)
        n_buckets = BUCKETS * self._n
        self._per_hazard = n_buckets / float(self._cumulative[-1])
        ends = np.bincount(self._bucket(self._cumulative.numpy()), minlength=n_buckets + 1)
        self._within = ends > 0  # buckets in which an event ends: there a hit has to be compared with it
        self._below = (ends.cumsum() - ends).astype(np.int32)  # events that end in an earlier bucket

    def _bucket(self, hazards: NDArray[np.float64]) -> NDArray[np.int64]:
        return (hazards * self._per_hazard).astype(np.int64)  # never falls when the hazard rises, however it rounds

    def keys(self, n_rows: int, rng: torch.Generator) -> Int[Tensor, " active"]:
        """Return sorted keys row * n + event of what occurs in each row, in time proportional to their number."""
        n_hits = int(torch.poisson(self._cumulative[-1:] * n_rows, generator=rng))
        rows = torch.randint(n_rows, (n_hits,), generator=rng)
        uniform = torch.rand(n_hits, dtype=torch.float64, generator=rng) * self._cumulative[-1]
        cells = rows.numpy() * self._n + np.minimum(self._hit(uniform.numpy()), self._n - 1)
        narrow = np.int32 if n_rows * self._n < 2**31 else np.int64  # sorted in half the time
        keys = np.sort(cells.astype(narrow))
        first = np.ones(n_hits, dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        return torch.from_numpy(keys[first].astype(np.int64))

    def _hit(self, hazards: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return how many events end at or below each hazard, as a binary search does."""
        buckets = self._bucket(hazards)
        events = self._below[buckets]
        unsure = self._within[buckets].nonzero()[0]
        events[unsure] = np.searchsorted(self._cumulative.numpy(), hazards[unsure], side="right")
        return events
