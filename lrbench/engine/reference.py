"""The operations on selected latents, slow and obvious: the yardstick of `lrbench.engine.kernels`, and the path on a GPU.

None waits for the device. The gradient of rows is a dense product: on a GPU the sum by atomic additions that would spare it differs
from run to run.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine.selection import Selection


def decode(
    chosen: Selection, values: Float[Tensor, " selected"], w: Float[Tensor, "latent dim"]
) -> Float[Tensor, "batch dim"]:
    """Return Σ_j values_j w[indices_j] for every sample: x_q W."""
    x: Tensor = F.embedding_bag(
        chosen.indices, w, chosen.offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )
    return x


def dots(
    chosen: Selection, w: Float[Tensor, "latent dim"], vectors: Float[Tensor, "batch dim"]
) -> Float[Tensor, " selected"]:
    """Return ⟨w[indices_j], vectors[sample of j]⟩: a pre-activation from inputs, a latent's gradient from that of x̂_r."""
    return (w[chosen.indices] * vectors[chosen.samples]).sum(1)


def row_gradient(
    indices: Int[Tensor, " term"],
    coefficients: Float[Tensor, " term"],
    places: Int[Tensor, " term"],
    vectors: Float[Tensor, "place dim"],
    n_latents: int,
) -> Float[Tensor, "latent dim"]:
    """Return the matrix whose row i is Σ_{j: indices_j = i} coefficients_j vectors[places_j]."""
    matrix = vectors.new_zeros(n_latents, vectors.shape[0])
    return matrix.index_put((indices.long(), places.long()), coefficients, accumulate=True) @ vectors


def topk(z: Float[Tensor, "batch latent"], k: int) -> Selection:
    """Return the k largest pre-activations of every sample."""
    winners = z.topk(min(k, z.shape[1]), dim=1, sorted=False).indices
    offsets = torch.arange(0, winners.numel() + 1, winners.shape[1], device=z.device)
    return Selection(winners.flatten(), offsets, z.shape[1])


def batch_topk(z: Float[Tensor, "batch latent"], k: float) -> Selection:
    """Return the k·B largest pre-activations of a batch of B, rounded."""
    n_samples, n_latents = z.shape
    winners = z.flatten().topk(max(1, round(min(k, n_latents) * n_samples)), sorted=False).indices.sort().values
    offsets = torch.searchsorted(winners, torch.arange(0, z.numel() + 1, n_latents, device=z.device))
    return Selection(winners % n_latents, offsets, n_latents)
