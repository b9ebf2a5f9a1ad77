"""Heavy tail: many more features than dimensions, most of them rare, with log-normal magnitudes (arXiv 2602.14111, section 3)."""

from __future__ import annotations

from dataclasses import replace

from lrbench.task import Scale, TaskSpec, family

RATIO = 4  # features per dimension, and latents where the scale has fewer


@family(levels={"constant": 0.0, "2-decades": 2.0}, smoke=("2-decades",), quick=("constant",))
def heavy_tail(decades: float, scale: Scale) -> TaskSpec:
    """Log-uniform activation rates over some powers of ten, with the scale's mean."""
    n = RATIO * scale.dim
    scale = replace(scale, n_latents=max(n, scale.n_latents))
    return scale.task(n_features=n, interference=0.25, lognormal=0.25, decades=decades)
