"""Gradients of weight matrices by rows: what the backward pass leaves for the optimiser in place of a matrix.

A training step touches few rows, and each by a sum of few vectors. `collect_row_gradients` asks for the parts of that sum; a weight
that nobody asked for gets an ordinary gradient, as autograd users expect.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lrbench.engine import reference
from lrbench.engine.mode import kernels, kernels_take


@dataclass(frozen=True)
class RowGradient:
    """A gradient whose row i is Σ_{j: indices_j = i} coefficients_j vectors[places_j]."""

    indices: Int[Tensor, " term"]
    coefficients: Float[Tensor, " term"]
    places: Int[Tensor, " term"]
    vectors: Float[Tensor, "place dim"]

    def dense(self, n_latents: int) -> Float[Tensor, "latent dim"]:
        """Return it as a matrix."""
        if not kernels_take(self.vectors):
            return reference.row_gradient(self.indices, self.coefficients, self.places, self.vectors, n_latents)
        gradient = self.vectors.new_zeros(n_latents, self.vectors.shape[1])
        starts, order = by_latent(self.indices, n_latents)
        kernels.run_in_threads(
            kernels.row_gradient, n_latents, starts, order, self.coefficients, self.places, self.vectors, gradient
        )
        return gradient


def by_latent(indices: Int[Tensor, " term"], n_latents: int) -> tuple[Int[Tensor, " latent_1"], Int[Tensor, " term"]]:
    """Return (starts, order): ``order[starts[i]:starts[i + 1]]`` are the places of latent i in ``indices``."""
    starts = torch.zeros(n_latents + 1, dtype=torch.int32)
    order = torch.empty_like(indices, dtype=torch.int32)
    kernels.sort_by_latent(0, indices.shape[0], indices.numpy(), starts.numpy(), order.numpy())
    return starts, order


def collect_row_gradients(w: Tensor) -> list[RowGradient]:
    """Collect the row gradients of a weight from now on, in the list returned, instead of a matrix in ``w.grad``."""
    w.row_gradients = []  # type: ignore[attr-defined]
    return w.row_gradients  # type: ignore[attr-defined, no-any-return]


def deliver_gradient(w: Tensor, gradient: RowGradient) -> Tensor | None:
    """Put a gradient into the weight's list where it has one (then None is returned), or return it as a matrix for autograd."""
    collected: list[RowGradient] | None = getattr(w, "row_gradients", None)
    if collected is None:
        return gradient.dense(w.shape[0])
    collected.append(gradient)
    return None


def joined(gradients: list[RowGradient]) -> RowGradient:
    """Return the sum of several as one."""
    if len(gradients) == 1:
        return gradients[0]
    starts = [0]
    for gradient in gradients:
        starts.append(starts[-1] + gradient.vectors.shape[0])
    return RowGradient(
        torch.cat([g.indices for g in gradients]),
        torch.cat([g.coefficients for g in gradients]),
        torch.cat([g.places + start for g, start in zip(gradients, starts, strict=False)]),
        torch.cat([g.vectors for g in gradients]),
    )
