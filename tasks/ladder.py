"""Ladder: the suite's default world made harder along one axis, or anywhere in the plane of a phase diagram; the study `ladder` asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lrbench.structure import Groups, Hierarchy, Independent
from lrbench.task import Scale, TaskSpec, family

CHILD = 0.5  # probability of a child, given its parent
GROUP = 4
RUNGS = {  # the first rung of every axis of `lrbench.ladder.axes`
    "crowding": 1.3, "density": 1.25, "interference": 0.05, "noise": 0.2, "correlation": 0.5,
    "skew": 0.5, "depth": 1.0, "samples": 200.0, "width": 2.0, "bend": 0.1,
}  # fmt: skip


@family(levels={axis: (axis, level) for axis, level in RUNGS.items()}, smoke=(), quick=(), standard=())
def ladder(rung: tuple[str, float], scale: Scale) -> TaskSpec:
    """One thing about the default world is made harder, all else stays."""
    axis, level = rung
    n = scale.task().world.n_features
    if axis == "crowding":
        return crowded(scale, round(n / level), level, n * scale.rate)
    if axis == "samples":
        return scale.task(n_distinct=round(level * n))
    if axis == "width":
        return replace(scale, n_latents=max(1, round(level * n))).task()
    if axis == "depth":
        # chains, each feature within the one before; roots are as frequent as keeps the mean L0
        depth = round(level)
        root = scale.rate * depth * (1 - CHILD) / (1 - CHILD**depth)
        chains = (
            Hierarchy(branching=(1,) * (depth - 1), root_rate=root, child_given_parent=CHILD) if depth > 1 else None
        )
        return scale.task(structure=chains or Independent())
    if axis == "correlation":
        return scale.task(structure=Groups(size=GROUP, cohesion=level))
    if axis == "density":
        return scale.task(rate=level / n)
    law: dict[str, Any] = {"zipf" if axis == "skew" else axis: level}  # interference, noise, bend
    return scale.task(**law)


@family(levels={"middle": (0.768, 0.065)}, smoke=(), quick=(), standard=())
def phase(place: tuple[float, float], scale: Scale) -> TaskSpec:
    """As many features as by default in d = δ n dimensions, of which ρ d are active in a sample."""
    undersampling, density = place
    dim = max(1, round(undersampling * scale.task().world.n_features))
    return crowded(scale, dim, 1 / undersampling, density * dim)


def crowded(scale: Scale, dim: int, ratio: float, mean_l0: float) -> TaskSpec:
    """So many features per dimension in random directions, which is all that crowded ones can be: no bound on M would be kept."""
    n = round(ratio * dim)
    return replace(scale, dim=dim, rate=mean_l0 / n).task(n, interference=1.0)
