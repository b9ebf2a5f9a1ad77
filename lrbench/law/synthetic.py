"""A world written as a synthetic model of SAELens (``sae_lens.synthetic``, version 6.36 or newer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.errors import LrbenchError, Unavailable
from lrbench.law.forest import Forest
from lrbench.law.sampler import CutNormal, FeatureLaw

if TYPE_CHECKING:
    from lrbench.structure import WorldSpec

FRESH_SEED = 0  # of what SAELens draws on its way to a model and what is then put in its place


def write(
    spec: WorldSpec, directions: Float[Tensor, "feature dim"], offset: Float[Tensor, " dim"], law: FeatureLaw | None
) -> Any:
    """Return a `sae_lens.synthetic.SyntheticModel` of a world, see `lrbench.world.World.to_sae_lens`."""
    spreads, means = _magnitudes(spec, law)
    _check(spec)
    try:
        from sae_lens import synthetic as library
        from sae_lens.synthetic.correlation import LowRankCorrelationMatrix
    except ImportError as error:
        raise Unavailable(
            f"to_sae_lens needs sae-lens 6.36 or newer ({error}): pip install 'linear-representation-bench[peers]'"
        ) from error
    config = _configuration(spec, library)
    n, dim = directions.shape
    dictionary = library.FeatureDictionary(n, dim, bias=spec.offset or False, initializer=None, seed=FRESH_SEED)
    dictionary.feature_vectors.data.copy_(directions)
    dictionary.bias.data.copy_(offset)
    hierarchy = None if config.hierarchy is None else library.generate_hierarchy(n, config.hierarchy, seed=FRESH_SEED)
    loadings = None if law is None or not law.loadings.shape[1] else law.loadings
    matrix = None if loadings is None else LowRankCorrelationMatrix(loadings, 1.0 - loadings.pow(2).sum(1))
    drawing = library.ActivationGenerator(
        num_features=n,
        firing_probabilities=torch.tensor(spec.drawn_rates),
        std_firing_magnitudes=spreads,
        mean_firing_magnitudes=means,
        modify_activations=None if hierarchy is None else hierarchy.modifier,
        correlation_matrix=matrix,
    )
    return library.SyntheticModel(config, dictionary, drawing, hierarchy, matrix)


def _magnitudes(spec: WorldSpec, law: FeatureLaw | None) -> tuple[Tensor, Tensor]:
    if law is not None and isinstance(law.magnitudes, CutNormal):
        return law.magnitudes.spreads, law.means
    if spec.magnitude_scale or spec.lognormal:
        raise LrbenchError(
            "sae-lens has magnitudes max(0, N(μ, σ²)): give the world magnitude_scale=0 or magnitudes=Magnitudes(...)"
        )
    return torch.zeros(spec.n_features), torch.full((spec.n_features,), spec.magnitude_min)


def _check(spec: WorldSpec) -> None:
    forest = spec.structure
    one_factor = not isinstance(forest, Forest) or len(set(forest.branching)) == 1 < forest.branching[0]
    has = {
        "one site": len(spec.dims) == 1,
        "no noise": spec.noise == 0,
        "no bend": spec.bend == 0,
        "independent features or a forest": forest.kind in ("independent", "forest"),
        "the same number of children, at least 2, on every level": one_factor,
        "rates that are equal or stretched between two by Zipf's law": not spec.decades
        and bool(spec.zipf) == (spec.rate_range is not None),
    }
    missing = [name for name, met in has.items() if not met]
    if missing:
        raise LrbenchError(f"this world is no synthetic model of sae-lens, which has {', '.join(missing)}")


def _configuration(spec: WorldSpec, library: Any) -> Any:
    """Return the configuration of the law; what is drawn from a seed is put in by hand."""
    from sae_lens.synthetic import firing_magnitudes as sizes
    from sae_lens.synthetic import firing_probabilities as rates
    from sae_lens.synthetic import synthetic_model as parts

    forest, law = spec.structure, spec.magnitudes
    trees = None
    if isinstance(forest, Forest):
        trees = library.HierarchyConfig(
            total_root_nodes=forest.roots,
            branching_factor=forest.branching[0],
            max_depth=len(forest.branching),
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=forest.scaled,
        )
    probability: Any = rates.ConstantFiringProbabilityConfig(spec.rate)
    if spec.rate_range is not None:
        least, most = spec.rate_range
        probability = rates.ZipfianFiringProbabilityConfig(exponent=spec.zipf, max_prob=most, min_prob=least)
    spreads: Any = 0.0
    if law is not None:
        spreads = sizes.FoldedNormalMagnitudeConfig(law.spread, law.spread_sd) if law.spread_sd else law.spread
    return parts.SyntheticModelConfig(
        num_features=spec.n_features,
        hidden_dim=spec.dims[0],
        firing_probability=probability,
        hierarchy=trees,
        orthogonalization=parts.OrthogonalizationConfig(spec.orthogonal_steps, 3e-4) if spec.orthogonal_steps else None,
        correlation=parts.LowRankCorrelationConfig(spec.copula.rank, spec.copula.scale) if spec.copula else None,
        std_firing_magnitudes=spreads,
        mean_firing_magnitudes=spec.magnitude_min if law is None else sizes.LinearMagnitudeConfig(law.first, law.last),
        bias=spec.offset or False,
        seed=FRESH_SEED,
    )
