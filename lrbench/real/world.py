"""A world of activations behind the interface of `lrbench.world.World`: samples are items, features are their classes.

Half of the classes are anchors, as means of the items that training sees; directions, which scores rest on, are means of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.real.cache import activations
from lrbench.real.items import items, labels
from lrbench.real.spec import HELD_OUT, L0, RealSpec
from lrbench.seeds import generator
from lrbench.world import SparseFeatures, World


@dataclass(frozen=True)
class Sample(SparseFeatures):
    """Items with their classes, each of magnitude 1.

    Parameters
    ----------
    items
        Their places in the table.
    """

    items: Int[Tensor, " batch"]


class RealWorld(World):
    """A realised `RealSpec`.

    Parameters
    ----------
    spec
        The model, its sites and the items.
    seed
        Which items are held out follows from it.

    Attributes
    ----------
    training, held_out
        The items that training sees, in an order of their own, and those that scores are computed on.
    reliability
        Mean cosine of a class's mean over the training items with that over the held-out ones, per site: what no dictionary that learns
        a class mean from the first can exceed on the second by much.

    Raises
    ------
    Unavailable
        When the model cannot be loaded and its activations are not in the cache.
    """

    def __init__(self, spec: RealSpec, seed: int = 0) -> None:
        self.spec = spec
        self.seed = seed
        texts = [item.text for item in items()]
        taken = activations(spec.model, spec.init, spec.sites, texts)
        self._labels = torch.tensor(labels())
        self.training, self.held_out = split(self._labels[:, 2], HELD_OUT, generator(seed, "split"))
        self._sites = [standardised(taken[site], self.training) for site in spec.sites]
        self._means = [self._class_means(site, self.held_out) for site in range(len(spec.sites))]
        self._known = [F.normalize(self._class_means(site, self.training), dim=1) for site in range(len(spec.sites))]
        self.directions = [F.normalize(means, dim=1) for means in self._means]
        self._linear, self._bends = self.directions, [None] * len(spec.sites)
        self.reliability = [float((a * b).sum(1).mean()) for a, b in zip(self._known, self.directions, strict=True)]

    def known(self, site: int) -> Float[Tensor, "feature dim"]:
        """Return the classes' directions as the training items show them."""
        return self._known[site]

    def sample(self, n_samples: int, stream: str = "data", index: int = 0) -> Sample:
        """Return items: the training ones in their order as ``"data"``, the held-out ones as ``"evaluation"``, else some training ones.

        Parameters
        ----------
        n_samples
            At most so many; there are no more than the split has.
        stream, index
            See `lrbench.world.World.sample`.
        """
        chosen = self.held_out if stream == "evaluation" else self.training
        if stream not in ("data", "evaluation"):
            chosen = chosen[torch.randperm(len(chosen), generator=generator(self.seed, stream, index))]
        return self.of(chosen[:n_samples])

    def of(self, chosen: Int[Tensor, " batch"]) -> Sample:
        """Return some items as a sample."""
        indices = self._labels[chosen]
        values = torch.ones(indices.numel())
        return Sample(indices.flatten(), values, torch.arange(len(chosen)) * indices.shape[1], chosen)

    def represent(
        self, features: SparseFeatures, site: int = 0, stream: str = "data", index: int = 0
    ) -> Float[Tensor, "batch dim"]:
        """Return the standardised activations of a sample's items."""
        assert isinstance(features, Sample), "a sample of this world"
        return self._sites[site][features.items]

    def isolated(self, site: int = 0) -> Float[Tensor, "feature dim"]:
        """Return the class means of the held-out items, as long as they are."""
        return self._means[site]

    def _class_means(self, site: int, chosen: Int[Tensor, " item"]) -> Float[Tensor, "feature dim"]:
        rows, n = self._sites[site][chosen], self.spec.n_features
        sums, counts = torch.zeros(n, rows.shape[1]), torch.zeros(n)
        for level in self._labels[chosen].T:
            sums.index_add_(0, level, rows)
            counts.index_add_(0, level, torch.ones(len(level)))
        return sums / counts.clamp_min(1.0).unsqueeze(1)


def split(
    classes: Int[Tensor, " item"], n_held_out: int, rng: torch.Generator
) -> tuple[Int[Tensor, " training"], Int[Tensor, " held_out"]]:
    """Return the items for training and those held out, a like share of every class, each part in a random order."""
    order = torch.randperm(len(classes), generator=rng)
    of_class = classes[order]
    counts = torch.bincount(classes)
    by_class = of_class.argsort(stable=True)
    first = counts.cumsum(0) - counts
    place = torch.empty(len(classes))
    place[by_class] = (torch.arange(len(classes)) - first[of_class[by_class]]).float()
    share = (place + 0.5) / counts[of_class]  # evenly over 0 to 1 in every class
    held_out = torch.zeros(len(classes), dtype=torch.bool)
    held_out[share.argsort(stable=True)[:n_held_out]] = True
    return order[~held_out], order[held_out]


def standardised(rows: Float[Tensor, "item dim"], training: Sequence[int] | Tensor) -> Float[Tensor, "item dim"]:
    """Return activations with mean 0 and equal variance in every coordinate, over the training items, and a mean square length of L0.

    A few coordinates of an MLP's output hold nearly all of its variance otherwise. With this length sixteen orthogonal features of
    magnitude 1 would make up a sample, the size that hyper-parameters were chosen for.
    """
    seen = rows[training]
    scale = seen.std(dim=0).clamp_min(1e-6)
    scaled: Tensor = (rows - seen.mean(dim=0)) / scale * (L0 / rows.shape[1]) ** 0.5
    return scaled
