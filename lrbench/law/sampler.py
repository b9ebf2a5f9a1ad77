"""Drawing features that are correlated by a copula and live in trees: exactly, and children only under active parents.

Given the ε of a sample its features are independent: one is drawn with probability Φ(z), z = (⟨a, ε⟩ + Φ⁻¹(p)) / √(1 − ‖a‖²). Features
without a parent are looked at in every sample. A random byte u tells for nearly all that they are not drawn: Φ(z) ≤ u / 256. What is left
gets the rest of its uniform number, in double precision.

Random numbers are torch's, all else is NumPy: torch would share small operations out among threads, which takes longer than they do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from lrbench.law.hits import above, drawn_children

LOOKED_AT = (
    1 << 20
)  # features of all samples that are looked at at a time: 4 MB of z, and operations too small for torch to share out
Level = tuple[NDArray[np.int64], NDArray[np.float32]]  # keys and magnitudes
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
        drawn, which = torch.randn(some.shape, generator=rng).numpy(), some.numpy()
        drawn *= self.spreads.numpy()[which]
        drawn += self.means.numpy()[which]
        return torch.from_numpy(np.maximum(drawn, 0.0, out=drawn))


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
        own = np.sqrt(1.0 - law.loadings.double().pow(2).sum(1).numpy())
        self._slopes = (law.loadings.numpy() / own[:, None]).astype(np.float32)
        self._levels = (ndtri(law.drawn.numpy().clip(NEVER)) / own).astype(np.float32)
        self._top = np.flatnonzero(law.parents.numpy() < 0)
        self._top_slopes = torch.from_numpy(self._slopes[self._top].T.copy())
        self._top_levels = torch.from_numpy(self._levels[self._top])
        self._families = families(law.parents).numpy()
        self._means, self._exclusive, self._scaled = law.means.numpy(), law.exclusive.numpy(), law.scaled.numpy()
        self._quantiles = ndtri(np.arange(257) / 256)
        self._least = np.nextafter(self._quantiles[:256].astype(np.float32), np.float32(-np.inf))  # at most these

    def sample(self, n_rows: int, rng: torch.Generator) -> tuple[Int[Tensor, " active"], Float[Tensor, " active"]]:
        """Return the sorted keys row * n + feature of all that is active, and its magnitudes."""
        room, parts = Room(min(n_rows, max(1, LOOKED_AT // max(1, len(self._top)))), len(self._top)), []
        for start in range(0, n_rows, len(room.z)):
            keys, values = self._some(min(len(room.z), n_rows - start), room, rng)
            parts.append((start * self._n + keys, values))
        keys, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        return torch.from_numpy(keys), torch.from_numpy(values)

    def _some(self, n_rows: int, room: Room, rng: torch.Generator) -> Level:
        """Return the same for as many samples as there is room for."""
        common = torch.randn(n_rows, self._slopes.shape[1], generator=rng)
        keys = self._top_keys(common, room, rng)
        values = self._magnitudes(keys % self._n, rng)
        level = keys[values > 0], values[values > 0]
        found = [level]
        while self._families.shape[1] and len(level[0]):
            level = self._children(*level, common.numpy(), rng)
            found.append(level)
        keys, values = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(keys, kind="stable")
        return keys[order], values[order]

    def _top_keys(self, common: Float[Tensor, "row rank"], room: Room, rng: torch.Generator) -> NDArray[np.int64]:
        """Return the keys of the features without a parent that are drawn."""
        n_top = len(self._top)
        z = torch.addmm(self._top_levels, common, self._top_slopes, out=room.z[: len(common)]).numpy().ravel()
        first = room.words.random_(-(2**63), None, generator=rng).numpy().view(np.uint8)[: len(z)]
        likely = above(z, first, self._least, room.found).astype(np.int64)
        u = (first[likely] + torch.rand(len(likely), dtype=torch.float64, generator=rng).numpy()) / 256.0
        sure = likely[ndtr(z[likely].astype(np.float64)) > u]
        keys: NDArray[np.int64] = sure // n_top * self._n + self._top[sure % n_top]
        return keys

    def _children(
        self, keys: NDArray[np.int64], values: NDArray[np.float32], common: NDArray[np.float32], rng: torch.Generator
    ) -> Level:
        """Return keys and magnitudes of the children that are active under active parents."""
        parents = keys % self._n
        with_some = np.flatnonzero(self._families[parents, 0] >= 0)
        parents, rows, values = parents[with_some], keys[with_some] // self._n, values[with_some]
        children = self._families[parents]
        u = torch.rand(children.shape, dtype=torch.float64, generator=rng).numpy()
        under, some = drawn_children(children, rows, common, self._slopes, self._levels, u, self._quantiles)
        own = self._magnitudes(some, rng)
        chance = torch.rand(len(some), dtype=torch.float64, generator=rng).numpy()
        chance[own == 0] = -1.0
        largest = np.zeros(len(parents))
        np.maximum.at(largest, under, chance)
        stays = (own > 0) & ((chance == largest[under]) | ~self._exclusive[parents[under]])
        under, some, own = under[stays], some[stays], own[stays]
        factor = np.where(self._scaled[parents], values / self._means[parents], np.float32(1.0))
        return rows[under] * self._n + some, own * factor[under]

    def _magnitudes(self, some: NDArray[np.int64], rng: torch.Generator) -> NDArray[np.float32]:
        return self._law.magnitudes(torch.from_numpy(some), rng).numpy()


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
