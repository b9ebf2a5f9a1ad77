"""Drawing features that are correlated by a copula and live in trees: exactly, and children only under active parents.

Given the ε of a sample its features are independent: one is drawn with probability Φ(z), z = (⟨a, ε⟩ + Φ⁻¹(p)) / √(1 − ‖a‖²). Features
without a parent are looked at in every sample. A random byte u tells for nearly all that they are not drawn: Φ(z) ≤ u / 256. What is left
gets the rest of its uniform number, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.law.hits import above

LOOKED_AT = (
    1 << 20
)  # features of all samples that are looked at at a time: 4 MB of z, and operations too small for torch to share out
NEVER = 1e-30  # in place of a probability of 0, whose quantile is infinite


@dataclass(frozen=True)
class FeatureLaw:
    """The law of every feature.

    Parameters
    ----------
    drawn
        What it is drawn with, a child's given that its parent is active.
    means
        Its mean magnitude.
    magnitudes
        Returns magnitudes of some features; where one is 0 the feature is not active.
    parents
        Its parent, -1 where there is none.
    exclusive, scaled
        Whether of its children that are drawn only one stays, and whether their magnitudes are multiplied by its own over its mean.
    loadings
        Its a in the copula; of rank 0 where features are independent.
    """

    drawn: Float[Tensor, " feature"]
    means: Float[Tensor, " feature"]
    magnitudes: Callable[[Tensor, torch.Generator], Tensor]
    parents: Int[Tensor, " feature"]
    exclusive: Bool[Tensor, " feature"]
    scaled: Bool[Tensor, " feature"]
    loadings: Float[Tensor, "feature rank"]


@dataclass(frozen=True)
class CutNormal:
    """The magnitudes max(0, μ + σ N(0, 1)) of `FeatureLaw`, with μ and σ of every feature."""

    means: Float[Tensor, " feature"]
    spreads: Float[Tensor, " feature"]

    def __call__(self, some: Int[Tensor, "*active"], rng: torch.Generator) -> Float[Tensor, "*active"]:
        """Return magnitudes of some features."""
        return torch.randn(some.shape, generator=rng).mul_(self.spreads[some]).add_(self.means[some]).clamp_min_(0.0)


@dataclass(frozen=True)
class Model:
    """Somebody else's model, that a world is instead of one from its seed.

    Parameters
    ----------
    directions
        Of the features, unit rows.
    offset
        What every representation has.
    law
        Of the features.
    """

    directions: Float[Tensor, "feature dim"]
    offset: Float[Tensor, " dim"]
    law: FeatureLaw


def random_loadings(n_features: int, rank: int, scale: float, rng: torch.Generator) -> Float[Tensor, "feature rank"]:
    """Return Gaussian loadings, shortened where less than 0.01 of a feature's variance would be its own."""
    rows = scale * torch.randn(n_features, rank, generator=rng)
    squares = rows.pow(2).sum(1, keepdim=True)
    return torch.where(squares > 0.99, rows * (0.99 / squares).sqrt(), rows)


class Room:
    """Memory for one look at the features without a parent, kept from one to the next: new memory costs a third of the time."""

    def __init__(self, n_rows: int, n_top: int) -> None:
        self.z = torch.empty(n_rows, n_top)
        self.words = torch.empty(-(-n_rows * n_top // 8), dtype=torch.int64)
        self.found = np.empty(n_rows * n_top, dtype=np.int32)


class Sampler:
    """Draws from a law.

    Parameters
    ----------
    law
        Of the features.
    """

    def __init__(self, law: FeatureLaw) -> None:
        self._law, self._n = law, len(law.drawn)
        own = (1.0 - law.loadings.double().pow(2).sum(1)).sqrt()
        self._slopes = (law.loadings.double() / own.unsqueeze(1)).float()
        self._levels = (torch.special.ndtri(law.drawn.double().clamp_min(NEVER)) / own).float()
        self._top = (law.parents < 0).nonzero().flatten()
        self._top_slopes, self._top_levels = self._slopes[self._top].T.contiguous(), self._levels[self._top]
        self._families = families(law.parents)
        bytes_ = torch.special.ndtri(torch.arange(256, dtype=torch.float64) / 256).float().numpy()
        self._quantiles = np.nextafter(bytes_, np.float32(-np.inf))  # at most the true ones

    def sample(self, n_rows: int, rng: torch.Generator) -> tuple[Int[Tensor, " active"], Float[Tensor, " active"]]:
        """Return the sorted keys row * n + feature of all that is active, and its magnitudes."""
        room, parts = Room(min(n_rows, max(1, LOOKED_AT // max(1, len(self._top)))), len(self._top)), []
        for start in range(0, n_rows, len(room.z)):
            keys, values = self._some(min(len(room.z), n_rows - start), room, rng)
            parts.append((start * self._n + keys, values))
        keys, values = (torch.cat(part) for part in zip(*parts, strict=True))
        return keys, values

    def _some(self, n_rows: int, room: Room, rng: torch.Generator) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        """Return the same for as many samples as there is room for."""
        common = torch.randn(n_rows, self._slopes.shape[1], generator=rng)
        keys = self._top_keys(common, room, rng)
        values = self._law.magnitudes(keys % self._n, rng)
        level = keys[values > 0], values[values > 0]
        found = [level]
        while self._families.shape[1] and len(level[0]):
            level = self._children(*level, common, rng)
            found.append(level)
        keys, values = (torch.cat(part) for part in zip(*found, strict=True))
        keys, order = keys.sort()
        return keys, values[order]

    def _top_keys(self, common: Float[Tensor, "row rank"], room: Room, rng: torch.Generator) -> Int[Tensor, " drawn"]:
        """Return the keys of the features without a parent that are drawn."""
        n_top = len(self._top)
        z = torch.addmm(self._top_levels, common, self._top_slopes, out=room.z[: len(common)]).view(-1)
        first = room.words.random_(-(2**63), None, generator=rng).view(torch.uint8)[: len(z)]
        likely = torch.from_numpy(above(z.numpy(), first.numpy(), self._quantiles, room.found)).long()
        u = (first[likely] + torch.rand(len(likely), dtype=torch.float64, generator=rng)) / 256.0
        sure = likely[torch.special.ndtr(z[likely].double()) > u]
        return sure // n_top * self._n + self._top[sure % n_top]

    def _children(
        self,
        keys: Int[Tensor, " active"],
        values: Float[Tensor, " active"],
        common: Float[Tensor, "row rank"],
        rng: torch.Generator,
    ) -> tuple[Int[Tensor, " awake"], Float[Tensor, " awake"]]:
        """Return keys and magnitudes of the children that are active under active parents."""
        law, parents = self._law, keys % self._n
        with_some = (self._families[parents, 0] >= 0).nonzero().flatten()
        parents, rows, values = parents[with_some], keys[with_some] // self._n, values[with_some]
        children = self._families[parents]
        z = torch.einsum("pcr,pr->pc", self._slopes[children], common[rows]) + self._levels[children]
        drawn = torch.special.ndtr(z.double()) > torch.rand(z.shape, dtype=torch.float64, generator=rng)
        above, place = (drawn & (children >= 0)).nonzero(as_tuple=True)
        some = children[above, place]
        own = law.magnitudes(some, rng)
        chance = torch.rand(len(some), dtype=torch.float64, generator=rng).masked_fill_(own == 0, -1.0)
        largest = torch.zeros(len(parents), dtype=torch.float64).scatter_reduce_(0, above, chance, "amax")
        stays = (own > 0) & ((chance == largest[above]) | ~law.exclusive[parents[above]])
        factor = torch.where(law.scaled[parents], values / law.means[parents], 1.0)
        return (rows[above] * self._n + some)[stays], (own * factor[above])[stays]


def families(parents: Int[Tensor, " feature"]) -> Int[Tensor, "feature child"]:
    """Return the children of every feature, -1 in the places that it does not fill; no places where nobody has children."""
    children = (parents >= 0).nonzero().flatten()
    children = children[parents[children].argsort(stable=True)]
    above = parents[children]
    counts = torch.bincount(above, minlength=len(parents))
    place = torch.arange(len(children)) - (counts.cumsum(0) - counts)[above]
    table = torch.full((len(parents), int(counts.max())), -1)
    table[above, place] = children
    return table
