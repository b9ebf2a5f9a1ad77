"""Hedging: a dictionary too narrow for a parent and its child; the parent's latent takes a share of the child."""

from __future__ import annotations

from dataclasses import replace

from lrbench.structure import Hierarchy
from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.50x": 0.5, "0.75x": 0.75, "1.00x": 1.0}, smoke=("0.50x",), quick=("0.50x",))
def hedging(width: float, scale: Scale) -> TaskSpec:
    """Latents per feature, where every parent has one child."""
    pairs = Hierarchy(branching=(1,), root_rate=2.5 * scale.rate, child_given_parent=0.5)
    spec = scale.task(n_features=scale.dim, structure=pairs)
    return replace(spec, n_latents=round(width * spec.world.n_features))
