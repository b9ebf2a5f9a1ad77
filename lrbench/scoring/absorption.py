"""Absorption: a parent's latent is silent because the latent of an active child writes the parent's direction as well.

It is counted net of what a cap on L0 alone does. The truth itself, if only so many features of a sample may stay, loses parents in
samples with a child more often than in others, since they are fuller.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.scoring.matching import unit_rows
from lrbench.world import SparseFeatures

SHARE = 0.25  # a child's latent writes the parent from this share of what it writes of the child on


def writes_parent(
    w_dec: Float[Tensor, "latent dim"],
    true: Float[Tensor, "feature dim"],
    partner: Int[Tensor, " feature"],
    parents: list[int],
) -> Bool[Tensor, " feature"]:
    """Return whether a feature's partner also writes the feature's parent: at least a quarter as much of it as of the feature itself.

    Parameters
    ----------
    w_dec
        Decoder rows.
    true
        Directions of all features.
    partner
        The latent of every feature, -1 where there is none.
    parents
        The parent of every feature, -1 where there is none.
    """
    parent = torch.tensor(parents)
    writes = torch.zeros(len(parent), dtype=torch.bool)
    child = ((parent >= 0) & (partner >= 0)).nonzero().flatten()
    rows, own, above = unit_rows(w_dec[partner[child]]).to(true), true[child], true[parent[child]]
    overlap, on_child, on_parent = (own * above).sum(1), (rows * own).sum(1), (rows * above).sum(1)
    # the least-squares coefficients on both directions, times 1 - overlap²
    of_child, of_parent = on_child - overlap * on_parent, on_parent - overlap * on_child
    writes[child] = (of_parent > 0) & (of_parent >= SHARE * of_child)
    return writes


def stays(features: SparseFeatures, l0: float) -> Float[Tensor, " active"]:
    """Return the probability with which each active feature stays where each sample keeps its k largest, k such that ``l0`` stay on average.

    A k between two whole numbers keeps the last one with the probability of its fraction. Everything stays where ``l0`` is not exceeded.
    """
    order = torch.argsort(features.values, descending=True, stable=True)
    order = order[torch.argsort(features.rows[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - features.offsets[features.rows]
    places = torch.bincount(rank).double()
    before = torch.cat([places.new_zeros(1), places.cumsum(0)])[:-1]
    share = ((l0 * len(features) - before) / places).clamp(0.0, 1.0)
    return share[rank].float()


def parent_rows(
    fired: Bool[Tensor, " active"],
    features: SparseFeatures,
    writes: Bool[Tensor, " feature"],
    parents: list[int],
    l0: float,
) -> dict[int, dict[str, float]]:
    """Return ``recall_alone``, ``recall_with_child`` and ``absorption`` of every feature with children.

    Parameters
    ----------
    fired
        For every active feature of ``features`` whether its partner fires; not where it has none.
    features
        The true features of the samples.
    writes
        From `writes_parent`.
    parents
        The parent of every feature, -1 where there is none.
    l0
        The dictionary's L0.

    Returns
    -------
    NaN where the parent is never seen alone, or never with a child.
    """
    n, parent_of = len(parents), torch.tensor(parents)
    rows, active = features.rows, features.indices
    child = parent_of[active] >= 0
    above = rows * n + parent_of[active]  # (sample, parent) of every active child
    here = rows * n + active
    with_child = torch.isin(here, above[child])
    absorbing = torch.isin(here, above[child & fired & writes[active]])
    kept = stays(features, l0)
    found = {}
    for parent in sorted(set(parents) - {-1}):
        own = active == parent
        alone, woken, taken = own & ~with_child, own & with_child, own & absorbing
        recall_alone, share, lost = _mean(fired[alone]), _mean(absorbing[woken]), 0.0
        if bool(taken.any()):  # what the cap does to the truth in the same samples is no absorption
            capped = max(0.0, _mean(kept[alone]) - _mean(kept[taken]))
            lost = max(0.0, recall_alone - _mean(fired[taken]) - capped)
        found[parent] = {
            "recall_alone": recall_alone,
            "recall_with_child": _mean(fired[woken]),
            "absorption": share * (math.nan if math.isnan(recall_alone) else lost),
        }
    return found


def _mean(values: Tensor) -> float:
    return float(values.double().mean())  # NaN where there are none
