"""Which features a dictionary has found: who points at them, and tells when they are there. `docs/metrics.md` has the reasons.

A latent's value for a feature is the geometric mean of two parts, both 0 at chance and 1 at their best:

* pointing: the root of 2 cos - 1, with the signed cosine of its decoder row and the feature's direction; nothing from 60 degrees on;
* telling: the F1 of its reading W_enc x + b_enc at the best threshold >= 0, counted from what a latent reaches that is always on.

Every latent speaks for one feature, the one that it has the largest value for. A feature is found as well as its best speaker finds it.
The activation has no part in this: it chooses among readings, and `f1` says how well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from lrbench.dictionary import Dictionary, random_dictionary
from lrbench.errors import LrbenchError
from lrbench.scoring.detection import Detector, Shown
from lrbench.scoring.matching import match, unit_rows
from lrbench.scoring.oracle import oracle_dictionary
from lrbench.seeds import generator
from lrbench.task import Task

BLOCK = 256  # latents that are read at a time
ROUNDING = 1e-6  # values that differ by less are equal
LEAST = 0.05  # what the oracle has to find beyond chance, else there is nothing to be found


@dataclass(frozen=True)
class Found:
    """How well every feature of the world is found.

    Parameters
    ----------
    values
        The value of its best speaker, 0 where it has none.
    partners
        That latent; without a speaker the one that points at it best among those that speak for nobody, -1 where none does.
    """

    values: Float[Tensor, " feature"]
    partners: Int[Tensor, " feature"]


def find(dictionary: Dictionary, task: Task) -> Found:
    """Return how well a dictionary on the CPU finds every feature, anchors included, on the task's held-out samples.

    Raises
    ------
    LrbenchError
        When readings are not finite.
    """
    features = task.evaluation()
    inputs = task.observed(features, dictionary.pair)[0].to(dictionary.W_enc)
    shown = Shown(features, task.spec.world.n_features)
    points = pointing(dictionary, task)
    values, partners = torch.zeros(points.shape[1]), torch.full((points.shape[1],), -1)
    silent = torch.ones(len(points), dtype=torch.bool)
    for some in torch.split(points.any(1).nonzero().flatten(), BLOCK):
        readings = torch.addmm(dictionary.b_enc[some], inputs, dictionary.W_enc[some].T).T.contiguous()
        if not bool(torch.isfinite(readings).all()):
            raise LrbenchError("readings of the held-out samples are not finite: they cannot be scored")
        exact = readings.to(torch.promote_types(readings.dtype, torch.float32)).numpy()
        for latent, reading in zip(some.tolist(), exact, strict=True):
            value, feature = best_value(reading, points[latent], shown)
            silent[latent] = value == 0.0
            if value > float(values[feature]) + ROUNDING:  # of copies the first speaks
                values[feature], partners[feature] = value, latent
    rest, unheard = silent.nonzero().flatten(), (partners < 0).nonzero().flatten()
    closest = match(points[rest][:, unheard])
    taken = closest.similarities > 0
    partners[unheard[taken]] = rest[closest.latents[taken]]
    return Found(values, partners)


def best_value(reading: NDArray[Any], points: Tensor, shown: Shown) -> tuple[float, int]:
    """Return a latent's largest value, and the feature that it is for; the value is 0 where the latent speaks for nobody."""
    detector, best, chosen = Detector(reading), 0.0, 0
    most, order = points.sort(descending=True, stable=True)
    for part, feature in zip(most.tolist(), order.tolist(), strict=True):
        if part <= best**2:  # telling is at most 1
            break
        samples = shown.samples(feature)
        rate = float(samples.mean())
        always = 2.0 * rate / (1.0 + rate)
        telling = max(0.0, (detector.f1(samples) - always) / (1.0 - always))
        value = math.sqrt(part * telling)
        if value > best:
            best, chosen = value, feature
    return best, chosen


def pointing(dictionary: Dictionary, task: Task) -> Float[Tensor, "latent feature"]:
    """Return how well every latent's decoder row points at every feature: 1 in its direction, 0 from 60 degrees on."""
    cosines = unit_rows(dictionary.W_dec) @ unit_rows(task.truth(dictionary.pair)[1]).T
    return (2.0 * cosines - 1.0).clamp_(0.0, 1.0).sqrt_()


@dataclass(frozen=True)
class Scale:
    """What a random dictionary and the oracle find of some features, on average: the 0 and the 1 of a score."""

    floor: float
    ceiling: float

    def __call__(self, found: float) -> float:
        """Return the share of the way from the floor to the ceiling; NaN where the oracle finds no more than `LEAST` beyond chance."""
        reach = self.ceiling - self.floor
        return (found - self.floor) / reach if reach > LEAST else float("nan")


@lru_cache(maxsize=8)
def scales(task: Task, pair: str) -> tuple[Scale, Scale]:
    """Return the scales of `headline` and of `rare`."""
    floor, ceiling = (find(it(task, pair), task).values for it in (floor_dictionary, oracle_dictionary))
    whole, rare = (Scale(mean(floor[some]), mean(ceiling[some])) for some in (task.scored, rarest(task)))
    return whole, rare


def mean(values: Float[Tensor, " feature"]) -> float:
    """Return the mean in double precision."""
    return float(values.double().mean())


def rarest(task: Task) -> Int[Tensor, " rare"]:
    """Return the least frequent quarter of the scored features; of equally frequent ones the first count as rarer."""
    rates = torch.tensor(task.spec.world.rates, dtype=torch.float64)[task.scored]
    return task.scored[rates.argsort(stable=True)[: -(-len(rates) // 4)]]


def floor_dictionary(task: Task, pair: str) -> Dictionary:
    """Return the random dictionary at the task's width, the one that the method ``random`` returns in a run."""
    true_enc, true_dec = task.truth(pair)
    shape = (task.spec.n_latents, true_enc.shape[1], true_dec.shape[1])
    return random_dictionary(*shape, rng=generator(task.fit_seed, "init"), pair=pair)
