"""SynthSAEBench-16k (arXiv 2602.14687): forests of exclusive siblings, a copula and Zipf rates, with four features per latent.

The smaller sisters have its law with fewer features and trees; the dimension falls with √n, as the mean L0 does.
"""

from __future__ import annotations

from dataclasses import replace

from lrbench.structure import Copula, Forest, Magnitudes
from lrbench.task import Scale, TaskSpec, family

N, DIM, ROOTS = 16_384, 768, 128
LATENT_SHARE = 0.25  # latents per feature: width 4,096
LEVELS = {"v2": (N, True), "v1": (N, False), "4k": (N // 4, True), "1k": (N // 16, True)}


@family(levels=LEVELS, smoke=(), quick=(), standard=(), synth=("v2",))
def synth16k(level: tuple[int, bool], scale: Scale) -> TaskSpec:
    """The world of SynthSAEBench: its children scaled by their parents (v2, the paper's) or not (v1, the published file's)."""
    n, scaled = level
    roots, dim = max(1, round(ROOTS * n / N)), max(1, round(DIM * (n / N) ** 0.5))
    scale = replace(scale, dim=dim, n_sites=1, n_latents=max(1, round(LATENT_SHARE * n)))
    spec = scale.task(
        n,
        n_distinct="fresh",
        structure=Forest(roots, (4, 4, 4), scaled),
        zipf=0.5,
        rate_range=(5e-4, 0.4),
        copula=Copula(rank=25, scale=0.1),
        magnitudes=Magnitudes(first=5.0, last=4.0, spread=0.5, spread_sd=0.5),
        offset=0.5,
        interference=1.0,
        orthogonal_steps=100,
    )
    return spec.telling_what_fits()
