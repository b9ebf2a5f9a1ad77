"""Wrong L0: methods are told another mean L0 than the world has; below the true one a latent mixes correlated features."""

from __future__ import annotations

from dataclasses import replace

from lrbench.structure import Groups
from lrbench.task import Scale, TaskSpec, family


@family(levels={"half": 0.5, "true": 1.0, "double": 2.0}, smoke=("half",), quick=("half",))
def wrong_l0(told: float, scale: Scale) -> TaskSpec:
    """The L0 that is told, as a multiple of the true one, where few features are frequent, correlated and noisy."""
    groups = Groups(size=4, cohesion=0.8)
    spec = scale.task(n_features=scale.dim // 2, rate=0.16, decades=0.9, noise=0.15, structure=groups)
    return replace(spec, told_l0=told)
