"""A synthetic model of SAELens, read: the law of its features, their directions and the offset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.errors import LrbenchError
from lrbench.law.forest import Given, active_rates
from lrbench.law.sampler import CutNormal, FeatureLaw, families


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


def read(model: Any) -> tuple[Given, Model]:
    """Return a `sae_lens.synthetic.SyntheticModel` as the structure of a world and as what the world then is.

    Raises
    ------
    LrbenchError
        For anything else, a correlation matrix of full rank, nodes without a feature, or activations that are modified otherwise.
    """
    if not (hasattr(model, "activation_generator") and hasattr(model, "feature_dict")):
        raise LrbenchError(f"{type(model).__name__}: expected a sae_lens.synthetic.SyntheticModel")
    drawing, dictionary = model.activation_generator, model.feature_dict
    n = int(drawing.num_features)
    if drawing.correlation_matrix is not None:
        raise LrbenchError(
            "the model's correlation matrix has full rank: only SAELens' low-rank ones can be taken over"
        )
    parents, exclusive, scaled = _trees(model, drawing, n)
    low_rank = drawing.low_rank_correlation
    vectors = dictionary.feature_vectors.detach().cpu().float()
    lengths = vectors.norm(dim=1)
    drawn = drawing.firing_probabilities.detach().cpu().double()
    sizes = [
        drawing.mean_firing_magnitudes.detach().cpu().float(),
        drawing.std_firing_magnitudes.detach().cpu().float(),
    ]
    means, spreads = (size * lengths for size in sizes)
    loadings = torch.zeros(n, 0) if low_rank is None else low_rank[0].detach().cpu().float()
    offset = dictionary.bias.detach().cpu().float()
    tensors = (vectors, offset, drawn, *sizes, loadings, parents, exclusive, scaled)
    digest = hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors))
    law = FeatureLaw(drawn, means, CutNormal(means, spreads), parents, exclusive, scaled, loadings)
    above = torch.special.ndtr(means.double() / spreads.double())
    positive = torch.where(spreads > 0, above, (means > 0).double())
    rates = active_rates(drawn.tolist(), positive.tolist(), parents.tolist(), _by_parent(parents), exclusive.tolist())
    given = Given(  # rounded: the same on every machine
        parents=tuple(parents.tolist()),
        rates=tuple(round(rate, 9) for rate in rates),
        means=tuple(round(mean, 4) for mean in means.tolist()),
        digest=digest.hexdigest()[:16],
    )
    return given, Model(vectors / lengths.clamp_min(1e-8).unsqueeze(1), offset, law)


def _trees(model: Any, drawing: Any, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parent of every feature, whether its children exclude each other, and whether it scales them."""
    parents = torch.full((n,), -1)
    exclusive, scaled = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    modifier = getattr(drawing.modify_activations, "_fn", drawing.modify_activations)
    if modifier is not (None if model.hierarchy is None else model.hierarchy.modifier):
        raise LrbenchError("the model modifies activations by more than its hierarchy: that cannot be taken over")
    todo = [] if model.hierarchy is None else list(model.hierarchy.roots)
    while todo:
        node = todo.pop()
        if node.feature_index is None or any(child.feature_index is None for child in node.children):
            raise LrbenchError("the model's hierarchy has a node without a feature: only features can be parents here")
        own = node.feature_index
        exclusive[own] = node.mutually_exclusive_children
        scaled[own] = node.scale_children_by_parent
        for child in node.children:
            parents[child.feature_index] = own
        todo += node.children
    return parents, exclusive, scaled


def _by_parent(parents: Tensor) -> dict[int, list[int]]:
    table = families(parents)
    return {
        parent: [child for child in table[parent].tolist() if child >= 0]
        for parent in sorted(set(parents.tolist()) - {-1})
    }
