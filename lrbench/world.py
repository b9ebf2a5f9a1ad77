"""A world with known truth: feature directions at m sites and an endless, seeded supply of sparse features.

The paper's section 1 and 3: x_p = W_p x, with x non-negative and sparse. Rows are features here, so ``directions[site]`` is
the transpose of W_p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lrbench.errors import LrbenchError
from lrbench.seeds import generator
from lrbench.structure import Groups, Hierarchy, WorldSpec

PROJECTION_STEPS = 2000
BEND_GAIN = 2.0  # the typical argument of tanh for a feature alone: well into its bend
BEND_SAMPLES = 4096  # what the mean square of a bent world is taken over
BUCKETS = 64  # per event, of a table that finds which one a random number hits: few buckets hold the end of one
GRAM_ROWS = 4096  # rows of the Gram matrix that are held at a time


@dataclass(frozen=True)
class SparseFeatures:
    """A batch of features x(s), stored by what is active.

    Parameters
    ----------
    indices
        Active features, sample after sample.
    values
        Their magnitudes, > 0.
    offsets
        Where each sample starts in ``indices``; the batch size is its length.
    """

    indices: Int[Tensor, " active"]
    values: Float[Tensor, " active"]
    offsets: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def rows(self) -> Int[Tensor, " active"]:
        """The sample that each active feature belongs to."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.indices)])])
        return torch.repeat_interleave(torch.arange(len(self)), ends - self.offsets)

    def represent(self, directions: Float[Tensor, "feature dim"]) -> Float[Tensor, "batch dim"]:
        """Return W x for every sample, touching only what is active."""
        x: Tensor = F.embedding_bag(self.indices, directions, self.offsets, mode="sum", per_sample_weights=self.values)
        return x

    def dense(self, n_features: int) -> Float[Tensor, "batch feature"]:
        """Return x as a dense matrix (for tests and small batches)."""
        x = torch.zeros(len(self), n_features)
        x[self.rows, self.indices] = self.values
        return x


class World:
    """A realised `WorldSpec`.

    Parameters
    ----------
    spec
        The law of the world.
    seed
        The world's seed: directions, samples and noise come from streams derived from it.

    Raises
    ------
    LrbenchError
        When the interference M asked for is not reached; the message says what was.

    Examples
    --------
    >>> world = World(WorldSpec(n_features=32, dims=(24,)), seed=0)
    >>> world.directions[0].shape
    torch.Size([32, 24])
    """

    def __init__(self, spec: WorldSpec, seed: int = 0) -> None:
        self.spec = spec
        self.seed = seed
        self.directions: list[Float[Tensor, "feature dim"]] = [
            spread_directions(spec.n_features, dim, spec.interference, generator(seed, "world", site))
            for site, dim in enumerate(spec.dims)
        ]
        self._linear = self.directions
        self._bends = [self._bend(site) for site in range(len(spec.dims))]
        if spec.bend:  # a feature's direction is where it points on its own
            self.directions = [F.normalize(self.isolated(site), dim=1) for site in range(len(spec.dims))]

    def _bend(self, site: int) -> Bend | None:
        if not self.spec.bend:
            return None
        sample = self.sample(BEND_SAMPLES, "bend").represent(self._linear[site])
        return Bend(self.spec.bend, sample, generator(self.seed, "bend", site))

    @property
    def hash(self) -> str:
        """The content hash: equal for equal law, seed and generator version, on every machine."""
        return self.spec.hash(self.seed)

    def known(self, site: int) -> Float[Tensor, "feature dim"]:
        """Return the directions that anchors are taken from: the true ones."""
        return self.directions[site]

    @cached_property
    def interference(self) -> list[float]:
        """The largest signed inner product between two directions, per site (the paper's M)."""
        return [max_interference(directions) for directions in self.directions]

    @cached_property
    def _events(self) -> Events:
        return _independent_events(self.spec)  # takes as long as a batch where features are many

    def sample(self, n_samples: int, stream: str = "data", index: int = 0) -> SparseFeatures:
        """Return samples of x, the same for the same stream and index.

        Parameters
        ----------
        n_samples
            Number of samples.
        stream, index
            Name of the random stream and place in it; different names or places are independent.
        """
        if n_samples < 1:
            raise LrbenchError(f"n_samples={n_samples}: expected at least 1")
        rng = generator(self.seed, stream, index)
        keys = _active_keys(self.spec, self._events, n_samples, rng)
        values = _magnitudes(self.spec, len(keys), rng)
        offsets = torch.searchsorted(keys, torch.arange(n_samples) * self.spec.n_features)
        return SparseFeatures(keys % self.spec.n_features, values, offsets)

    def stream(self, batch_size: int, stream: str = "data") -> Iterator[SparseFeatures]:
        """Yield batches of x without end."""
        index = 0
        while True:
            yield self.sample(batch_size, stream, index)
            index += 1

    def represent(
        self, features: SparseFeatures, site: int = 0, stream: str = "data", index: int = 0
    ) -> Float[Tensor, "batch dim"]:
        """Return the representation of a batch at a site, with the world's observation noise.

        Parameters
        ----------
        features
            A batch from `sample`.
        site
            The site, 0 to m-1.
        stream, index
            Where the noise is drawn; give what `sample` was given.
        """
        x, bend = features.represent(self._linear[site]), self._bends[site]
        x = x if bend is None else bend(x)
        if self.spec.noise:
            rng = generator(self.seed, stream, index, "noise", site)
            x = x + self.spec.noise / x.shape[1] ** 0.5 * torch.randn(x.shape, generator=rng)
        return x

    def isolated(self, site: int = 0) -> Float[Tensor, "feature dim"]:
        """Return every feature on its own, at its mean magnitude, as seen at a site (no noise)."""
        alone, bend = self.spec.mean_magnitude * self._linear[site], self._bends[site]
        return alone if bend is None else bend(alone)

    def together(self, active: Bool[Tensor, "case feature"], site: int = 0) -> Float[Tensor, "case dim"]:
        """Return what features give together, each at its mean magnitude, as seen at a site (no noise)."""
        x, bend = self.spec.mean_magnitude * active.float() @ self._linear[site], self._bends[site]
        return x if bend is None else bend(x)


class Bend:
    """x = s · ((1 − ε) y + ε g(y)) of a linear representation y = W x, with g(y) = tanh(2 √d R y) at y's mean square.

    R is a random rotation: g saturates in directions that no feature is aligned with, so it bends each feature's ray, and two
    features together are not the sum of what they are alone. s keeps E‖x‖² as it is without the bend.

    Parameters
    ----------
    strength
        ε in (0, 1].
    sample
        Linear representations that the mean square is taken over.
    rng
        Draws R.
    """

    def __init__(self, strength: float, sample: Float[Tensor, "sample dim"], rng: torch.Generator) -> None:
        self.strength = strength
        dim = sample.shape[1]
        rotation, upper = torch.linalg.qr(torch.randn(dim, dim, generator=rng, dtype=torch.float64))
        self._turn = (rotation * upper.diagonal().sign()).float() * (
            BEND_GAIN * dim**0.5
        )  # signs: uniform over rotations
        power = _mean_square(sample)
        self._inner = (power / _mean_square(torch.tanh(sample @ self._turn))) ** 0.5 if power else 0.0
        self._outer = (power / _mean_square(self._mix(sample))) ** 0.5 if power else 1.0

    def __call__(self, y: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Return the bent representation of linear ones; 0 stays 0."""
        return self._outer * self._mix(y)

    def _mix(self, y: Tensor) -> Tensor:
        return (1.0 - self.strength) * y + self.strength * self._inner * torch.tanh(y @ self._turn)


def spread_directions(
    n_features: int, dim: int, interference: float, rng: torch.Generator, steps: int = PROJECTION_STEPS
) -> Float[Tensor, "feature dim"]:
    """Return unit rows whose signed inner products are all at most ``interference`` (the paper's section 3).

    Normalised Gaussian rows, then projected gradient descent on
    sum max(0, <w_i,w_j> - (M - eps))^2 + lambda * sum max(0, <w_i,w_j>)^2, until the largest inner product is <= M.

    Raises
    ------
    LrbenchError
        When ``steps`` do not reach M.
    """
    step_size, push, margin = 0.5, 0.01, 0.02 * interference  # the paper leaves lambda and eps open
    rows = F.normalize(torch.randn(n_features, dim, generator=rng), dim=1)
    if interference >= 1.0:
        return rows  # unit rows reach no more: no Gram matrix is needed
    reached = lowest = max_interference(rows)
    for _ in range(steps):
        if reached <= interference:
            return rows
        gram = (rows @ rows.T).fill_diagonal_(0.0)
        pull = (gram - (interference - margin)).clamp_min_(0.0) + push * gram.clamp_min(0.0)
        pull /= pull.sum(1).max().clamp_min(1.0)  # crowded rows would overshoot
        rows = F.normalize(rows - step_size * (pull @ rows), dim=1)
        reached = max_interference(rows)
        lowest = min(lowest, reached)
    if reached <= interference:
        return rows
    raise LrbenchError(
        f"interference M={interference} was not reached with n={n_features} features in d={dim} dimensions: "
        f"{steps} steps came down to {lowest:.4f}; ask for a larger M or for fewer features"
    )


def max_interference(directions: Float[Tensor, "feature dim"]) -> float:
    """Return the largest signed inner product between two different rows (the paper's M); -1 for a single row."""
    if len(directions) < 2:
        return -1.0
    largest = -1.0
    for first in range(0, len(directions), GRAM_ROWS):
        gram = directions[first : first + GRAM_ROWS] @ directions.T
        gram.diagonal(first).fill_(-1.0)
        largest = max(largest, float(gram.max()))
    return largest


def _magnitudes(spec: WorldSpec, n: int, rng: torch.Generator) -> Float[Tensor, " active"]:
    if spec.lognormal:
        return torch.randn(n, generator=rng).mul_(spec.lognormal).exp_()
    return spec.magnitude_min + spec.magnitude_scale * torch.empty(n).exponential_(generator=rng)


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


def _independent_events(spec: WorldSpec) -> Events:
    """Return what is drawn first: groups, or features without a parent."""
    if isinstance(spec.structure, Groups):
        return Events(torch.tensor(spec.group_rates))
    rates = torch.tensor(spec.rates, dtype=torch.float64)
    return Events(torch.where(torch.tensor(spec.parents) < 0, rates, 0.0))


def _active_keys(spec: WorldSpec, events: Events, n_rows: int, rng: torch.Generator) -> Int[Tensor, " active"]:
    """Return the sorted keys row * n + feature of all that is active."""
    level = events.keys(n_rows, rng)
    if isinstance(spec.structure, Groups):
        return _group_keys(spec, spec.structure, level, rng)
    if not isinstance(spec.structure, Hierarchy):
        return level
    levels = [level]
    families = torch.full((spec.n_features, max(spec.structure.branching)), -1)
    for parent, children in spec.children.items():
        families[parent, : len(children)] = torch.tensor(children)
    for _ in spec.structure.branching:
        level = _child_keys(spec.structure, families, level, rng)
        levels.append(level)
    return torch.cat(levels).sort().values


def _child_keys(
    law: Hierarchy, families: Int[Tensor, "feature child"], keys: Int[Tensor, " active"], rng: torch.Generator
) -> Int[Tensor, " awake"]:
    """Return the keys of the children that wake up under the active features in ``keys``."""
    n_features = len(families)
    children = families[keys % n_features]
    exists = children >= 0
    if law.exclusive:
        chosen = (torch.rand(len(keys), generator=rng) * exists.sum(1)).long().unsqueeze(1)
        awake = torch.zeros_like(exists).scatter_(1, chosen.clamp_max(exists.shape[1] - 1), True)
        awake &= torch.rand(len(keys), 1, generator=rng) < law.child_given_parent
    else:
        awake = torch.rand(children.shape, generator=rng) < law.child_given_parent
    rows = torch.div(keys, n_features, rounding_mode="floor").unsqueeze(1)
    return (rows * n_features + children)[awake & exists]


def _group_keys(
    spec: WorldSpec, law: Groups, events: Int[Tensor, " event"], rng: torch.Generator
) -> Int[Tensor, " active"]:
    """Return the sorted keys of the members that wake up in the active groups."""
    n_groups = len(spec.group_rates)
    rows = torch.div(events, n_groups, rounding_mode="floor").unsqueeze(1)
    features = (events % n_groups).unsqueeze(1) * law.size + torch.arange(law.size)
    given = F.pad(
        torch.tensor(spec.rates_in_group), (0, n_groups * law.size - spec.n_features)
    )  # nobody in the last places
    awake = torch.rand(features.shape, generator=rng) < given[features]
    return (rows * spec.n_features + features)[awake].sort().values


def _mean_square(rows: Tensor) -> float:
    return float(rows.double().pow(2).sum(1).mean())
