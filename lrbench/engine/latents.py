"""Latents of a training batch, in the form that costs least: as a dense matrix, or as the active ones only.

Both forms answer the same questions. `Dense` is the slow, obvious reference; `Active` gives the same numbers and gradients
while touching only the decoder rows of latents that fire.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


class Latents(Protocol):
    """What the loss asks of a batch's latents x_q."""

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec."""

    def prefix(self, size: int) -> Latents:
        """Return the same latents with all but the first ``size`` set to zero."""

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁."""

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""


@dataclass(frozen=True)
class Dense:
    """Latents as a matrix.

    Parameters
    ----------
    matrix
        x_q, a row a sample.
    """

    matrix: Float[Tensor, "batch latent"]

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec."""
        return torch.addmm(b_dec, self.matrix, w_dec)

    def prefix(self, size: int) -> Dense:
        """Return the same latents with all but the first ``size`` set to zero."""
        return Dense(F.pad(self.matrix[:, :size], (0, self.matrix.shape[1] - size)))

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁."""
        return self.matrix.sum(1).mean()

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""
        return (self.matrix > 0).any(0)

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the matrix."""
        return self.matrix


@dataclass(frozen=True)
class Active:
    """Latents by what is selected; a selected one may still be 0.

    Parameters
    ----------
    indices, values
        Selected latents and their values >= 0, sample after sample.
    offsets
        Where each sample starts.
    n_latents
        Width n_q.
    """

    indices: Int[Tensor, " selected"]
    values: Float[Tensor, " selected"]
    offsets: Int[Tensor, " batch"]
    n_latents: int

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec, reading only the selected rows."""
        x: Tensor = F.embedding_bag(self.indices, w_dec, self.offsets, mode="sum", per_sample_weights=self.values)
        return x + b_dec

    def prefix(self, size: int) -> Active:
        """Return the same latents with all but the first ``size`` set to zero."""
        return replace(self, values=self.values * (self.indices < size))

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁."""
        return self.values.sum() / len(self.offsets)

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""
        fired = torch.zeros(self.n_latents, dtype=torch.bool, device=self.indices.device)
        return fired.index_put((self.indices[self.values > 0],), torch.tensor(True, device=fired.device))

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""
        counts = torch.diff(self.offsets, append=self.offsets.new_tensor([len(self.indices)]))
        rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        matrix = self.values.new_zeros(len(counts), self.n_latents)
        return matrix.index_put((rows, self.indices), self.values)


def select_topk(z: Float[Tensor, "batch latent"], k: int) -> Active:
    """Return the k largest of each sample, negative ones as 0."""
    n_latents = z.shape[1]
    values, winners = z.topk(min(k, n_latents), dim=1, sorted=False)
    offsets = torch.arange(0, winners.numel(), winners.shape[1], device=z.device)
    return Active(winners.flatten(), values.relu().flatten(), offsets, n_latents)


def select_batch_topk(z: Float[Tensor, "batch latent"], k: int) -> Active:
    """Return the k·B largest of a batch of B, negative ones as 0."""
    n_samples, n_latents = z.shape
    winners = z.flatten().topk(min(k, n_latents) * n_samples, sorted=False).indices.sort().values
    offsets = torch.searchsorted(winners, torch.arange(0, z.numel(), n_latents, device=z.device))
    return Active(winners % n_latents, z.flatten()[winners].relu(), offsets, n_latents)
