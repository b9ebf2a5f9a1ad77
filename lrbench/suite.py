"""Suites: the scales at which a task is asked, and what a task may spend at a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from lrbench.errors import LrbenchError, UnknownName
from lrbench.structure import WorldSpec

ANCHOR_SHARE = 0.1  # the paper anchors 100 of 1000 features
Distinct = int | Literal["fresh"]


@dataclass(frozen=True)
class TaskSpec:
    """What a family's level asks for at a scale: a law of the world and what may be spent on it.

    Parameters
    ----------
    world
        The law.
    n_latents, n_distinct, n_samples, batch_size, n_evaluation
        See `Scale`.
    start
        The trap that training starts from, or its control, as the family's own `Start` knows it; None in ordinary tasks.
    told_l0
        The mean L0 that methods are told, as a multiple of the world's own: 1 for the truth.
    anchor_share
        Share of the features that are known.
    """

    world: WorldSpec
    n_latents: int
    n_distinct: Distinct
    n_samples: int
    batch_size: int
    n_evaluation: int
    start: str | None = None
    told_l0: float = 1.0
    anchor_share: float = ANCHOR_SHARE

    def __post_init__(self) -> None:
        n = self.n_distinct
        if n != "fresh" and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise LrbenchError(f"n_distinct={n!r}: expected a whole number >= 1, or 'fresh' to draw every sample anew")

    def telling_what_fits(self) -> TaskSpec:
        """Return the task with methods told the L0 of the most frequent features alone, as many of them as there are latents."""
        fit = sorted(self.world.rates, reverse=True)[: self.n_latents]
        told = math.fsum(fit) / self.world.mean_l0
        return replace(self, told_l0=round(told, 6))  # the same on every machine

    @property
    def n_anchors(self) -> int:
        """Number of known features k, at least 1."""
        return max(1, round(self.anchor_share * self.world.n_features))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size at which a suite asks its questions.

    Parameters
    ----------
    dim
        Dimension of every site.
    rate
        Probability 1-S that a feature is active, where a family does not say otherwise.
    n_latents, n_distinct, n_samples, batch_size
        Width of the dictionary, distinct training samples (the paper's N), samples that training may look at, batch size.
        With ``n_distinct="fresh"`` every sample that training looks at is a new one, drawn while it runs and held nowhere.
    n_evaluation
        Held-out samples that scores are computed on.
    n_sites
        Number of sites m.
    """

    dim: int
    rate: float
    n_latents: int
    n_distinct: Distinct
    n_samples: int
    batch_size: int
    n_evaluation: int
    n_sites: int = 2

    def task(self, n_features: int | None = None, *, n_distinct: Distinct | None = None, **law: Any) -> TaskSpec:
        """Return the task with 1.3 features per dimension, as in the paper's default, or as many as asked for.

        Parameters
        ----------
        n_features
            Number of features n.
        n_distinct
            Distinct training samples where they are not the scale's.
        law
            Fields of `WorldSpec` that differ from the scale's.

        Raises
        ------
        LrbenchError
            For an ``n_distinct`` that is neither a number from 1 on nor ``"fresh"``.
        """
        n = round(1.3 * self.dim) if n_features is None else n_features
        world = WorldSpec(**{"n_features": n, "dims": (self.dim,) * self.n_sites, "rate": self.rate, **law})
        budget = {
            name: getattr(self, name) for name in ("n_latents", "n_distinct", "n_samples", "batch_size", "n_evaluation")
        }
        if n_distinct is not None:
            budget["n_distinct"] = n_distinct
        return TaskSpec(world, **budget)


@dataclass(frozen=True)
class Suite:
    """A named scale with its number of seeds.

    Parameters
    ----------
    name, summary, scale, seeds
        As they are listed.
    l0
        Multiples of the world's mean L0 at which every plain SDL method is asked.
    levels_of
        The suite whose levels it runs where a family does not say which; None for all.
    only_named
        Whether it runs the levels of those families alone that say which.
    """

    name: str
    summary: str
    scale: Scale
    seeds: int
    l0: tuple[float, ...] = (1.0,)
    levels_of: str | None = None
    only_named: bool = False


_SMALL = Scale(
    dim=96, rate=0.02, n_latents=256, n_distinct=65_536, n_samples=256 * 600, batch_size=256, n_evaluation=8192
)
SUITES = {
    suite.name: suite
    for suite in (
        Suite("smoke", "one toy world per family, in seconds: does it run?", seeds=1, scale=Scale(
            dim=32, rate=0.05, n_latents=64, n_distinct=4096, n_samples=64 * 150, batch_size=64, n_evaluation=2048)),
        Suite("quick", "small worlds on a laptop, in minutes", seeds=3, scale=_SMALL),
        Suite("board", "the published page: the worlds of quick, more seeds and three L0, within an hour", seeds=8, scale=_SMALL,
              l0=(0.5, 1.0, 2.0), levels_of="quick"),
        Suite("standard", "the paper's scale: n about 1000, d = 768, 16,000 latents", seeds=3, scale=Scale(
            dim=768, rate=0.01, n_latents=16_000, n_distinct=100_000, n_samples=2_560_000, batch_size=1024,
            n_evaluation=16_384)),
        Suite("real", "activations of small models: class means stand for the truth, on a page of their own", seeds=2, only_named=True,
              scale=Scale(dim=384, rate=0.03, n_latents=1024, n_distinct=8192, n_samples=256 * 3000, batch_size=256, n_evaluation=4096)),
        Suite("synth", "SynthSAEBench-16k at its published size, with 10 of its 200 million samples", seeds=1, only_named=True, scale=Scale(
            dim=768, rate=0.01, n_latents=4096, n_distinct="fresh", n_samples=10_000 * 1024, batch_size=1024,
            n_evaluation=32_768)),
    )
}  # fmt: skip


def get_suite(name: str) -> Suite:
    """Return a suite by name, or raise `UnknownName`."""
    if name not in SUITES:
        raise UnknownName("suite", name, SUITES)
    return SUITES[name]
