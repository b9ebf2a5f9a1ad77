"""A world with known truth: feature directions at m sites and an endless, seeded supply of sparse features.

The paper's section 1 and 3: x_p = W_p x, with x non-negative and sparse. Rows are features here, so ``directions[site]`` is
the transpose of W_p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.errors import LrbenchError
from lrbench.law.directions import max_interference, orthogonalise, spread_directions
from lrbench.law.events import Events
from lrbench.law.forest import Forest, Given
from lrbench.law.sampler import CutNormal, FeatureLaw, Sampler, random_loadings
from lrbench.seeds import generator
from lrbench.structure import Groups, Hierarchy, WorldSpec

BEND_GAIN = 2.0  # the typical argument of tanh for a feature alone: well into its bend
BEND_SAMPLES = 4096  # what the mean square of a bent world is taken over


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
        When the interference M asked for is not reached (the message says what was), and for the structure `Given`, which
        no seed draws.

    Examples
    --------
    >>> world = World(WorldSpec(n_features=32, dims=(24,)), seed=0)
    >>> world.directions[0].shape
    torch.Size([32, 24])
    """

    def __init__(self, spec: WorldSpec, seed: int = 0) -> None:
        if isinstance(spec.structure, Given):
            raise LrbenchError(
                "structure=Given(...): expected one that a seed draws; this one comes with its model, use lrbench.task_from_sae_lens(model)"
            )
        self.spec = spec
        self.seed = seed
        self.directions: list[Float[Tensor, "feature dim"]] = [self._spread(site) for site in range(len(spec.dims))]
        self._linear = self.directions
        self._bends = [self._bend(site) for site in range(len(spec.dims))]
        if spec.bend:  # a feature's direction is where it points on its own
            ends = [bend(self._alone(site)) for site, bend in enumerate(self._bends) if bend is not None]
            self.directions = [F.normalize(end, dim=1) for end in ends]

    def _spread(self, site: int) -> Float[Tensor, "feature dim"]:
        spec = self.spec
        rows = spread_directions(
            spec.n_features, spec.dims[site], spec.interference, generator(self.seed, "world", site)
        )
        return orthogonalise(rows, spec.orthogonal_steps) if spec.orthogonal_steps else rows

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

    @cached_property
    def offsets(self) -> list[Float[Tensor, " dim"]]:
        """What every representation of a site has, whatever is active."""
        drawn = [
            torch.randn(dim, generator=generator(self.seed, "offset", site)) for site, dim in enumerate(self.spec.dims)
        ]
        return [self.spec.offset * F.normalize(vector, dim=0) for vector in drawn]

    @cached_property
    def law(self) -> FeatureLaw | None:
        """The law of every feature where features are drawn one by one, in a forest, with a copula, or with magnitudes of their own."""
        spec, n = self.spec, self.spec.n_features
        if not (isinstance(spec.structure, Forest) or spec.copula or spec.magnitudes):
            return None
        means = torch.tensor(spec.mean_magnitudes)
        law = spec.magnitudes
        spreads = torch.zeros(n)
        if law is not None:
            spreads = (law.spread + law.spread_sd * torch.randn(n, generator=generator(self.seed, "spread"))).abs()
        rank, scale = (spec.copula.rank, spec.copula.scale) if spec.copula else (0, 0.0)
        return FeatureLaw(
            drawn=torch.tensor(spec.drawn_rates, dtype=torch.float64),
            means=means,
            magnitudes=partial(_magnitudes, spec) if law is None else CutNormal(means, spreads),
            parents=torch.tensor(spec.parents),
            exclusive=torch.ones(n, dtype=torch.bool),
            scaled=torch.full((n,), isinstance(spec.structure, Forest) and spec.structure.scaled),
            loadings=random_loadings(n, rank, scale, generator(self.seed, "copula")),
        )

    @cached_property
    def _sampler(self) -> Sampler | None:
        return None if self.law is None else Sampler(self.law)

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
        if self._sampler is None:
            keys = _active_keys(self.spec, self._events, n_samples, rng)
            values = _magnitudes(self.spec, keys, rng)
        else:
            keys, values = self._sampler.sample(n_samples, rng)
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
        x = self._seen(features.represent(self._linear[site]), site)
        if self.spec.noise:
            rng = generator(self.seed, stream, index, "noise", site)
            x = x + self.spec.noise / x.shape[1] ** 0.5 * torch.randn(x.shape, generator=rng)
        return x

    def to_sae_lens(self) -> Any:
        """Return this world as a `sae_lens.synthetic.SyntheticModel` on the CPU: the same law, directions and offset.

        SAELens' own files hold no σ of magnitudes by feature: what it saves and loads draws them anew.

        Raises
        ------
        Unavailable
            Without sae-lens.
        LrbenchError
            For a law that it does not have: several sites, noise, a bend, groups, the paper's hierarchies, log-uniform
            rates, or magnitudes that are not constant or `lrbench.structure.Magnitudes`.
        """
        from lrbench.law.synthetic import write

        return write(self.spec, self.directions[0], self.offsets[0], self.law)

    def isolated(self, site: int = 0) -> Float[Tensor, "feature dim"]:
        """Return every feature on its own, at its mean magnitude, as seen at a site (no noise)."""
        return self._seen(self._alone(site), site)

    def together(self, active: Bool[Tensor, "case feature"], site: int = 0) -> Float[Tensor, "case dim"]:
        """Return what features give together, each at its mean magnitude, as seen at a site (no noise)."""
        return self._seen((self._mean_magnitudes * active.float()) @ self._linear[site], site)

    @cached_property
    def _mean_magnitudes(self) -> Float[Tensor, " feature"]:
        return torch.tensor(self.spec.mean_magnitudes)

    def _alone(self, site: int) -> Float[Tensor, "feature dim"]:
        return self._mean_magnitudes.unsqueeze(1) * self._linear[site]

    def _seen(self, y: Float[Tensor, "batch dim"], site: int) -> Float[Tensor, "batch dim"]:
        bend = self._bends[site]
        x = y if bend is None else bend(y)
        return x + self.offsets[site] if self.spec.offset else x


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


def _magnitudes(spec: WorldSpec, some: Int[Tensor, "*active"], rng: torch.Generator) -> Float[Tensor, "*active"]:
    if spec.lognormal:
        return torch.randn(some.shape, generator=rng).mul_(spec.lognormal).exp_()
    return spec.magnitude_min + spec.magnitude_scale * torch.empty(some.shape).exponential_(generator=rng)


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
