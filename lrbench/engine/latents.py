"""Latents of a training batch, in the form that costs least: as a dense matrix, or as the selected ones only.

Both forms answer the same questions. `Dense` is the slow, obvious reference; `Active` gives the same numbers and gradients
while touching only the decoder rows of latents that are selected. Pre-activations come in the same two forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from lrbench.engine import ops
from lrbench.engine.mode import host_waits_for, kernels, kernels_take
from lrbench.engine.selection import Selection


class Latents(Protocol):
    """What rules and terms ask of a batch's latents x_q, or of the pre-activations that may become some."""

    @property
    def values(self) -> Tensor:
        """The numbers, in whatever shape they are kept."""

    @property
    def n_samples(self) -> int:
        """Size B of the batch."""

    def with_values(self, values: Tensor) -> Self:
        """Return other numbers in the same places."""

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return a parameter of the latents in a shape that goes with ``values``."""

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec."""

    def prefix(self, size: int) -> Self:
        """Return the same latents with all but the first ``size`` set to zero."""

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""


@dataclass(frozen=True)
class Dense:
    """Latents as a matrix.

    Parameters
    ----------
    values
        x_q, one row per sample.
    """

    values: Float[Tensor, "batch latent"]

    @property
    def n_samples(self) -> int:
        """Size B of the batch."""
        return len(self.values)

    def with_values(self, values: Tensor) -> Dense:
        """Return other numbers in the same places."""
        return Dense(values)

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return the parameter, which goes with every row."""
        return parameter

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec."""
        return torch.addmm(b_dec, self.values, w_dec)

    def prefix(self, size: int) -> Dense:
        """Return the same latents with all but the first ``size`` set to zero."""
        return Dense(F.pad(self.values[:, :size], (0, self.values.shape[1] - size)))

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""
        return self.values.sum(1).mean()

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""
        return self.values.amax(0) > 0

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the matrix."""
        return self.values


@dataclass(frozen=True)
class Active:
    """Latents by what is selected; a selected one may still be 0.

    Parameters
    ----------
    chosen
        Which are selected.
    values
        Their values, sample after sample.
    """

    chosen: Selection
    values: Float[Tensor, " selected"]

    @property
    def n_samples(self) -> int:
        """Size B of the batch."""
        return self.chosen.n_samples

    def with_values(self, values: Tensor) -> Active:
        """Return other numbers in the same places."""
        return Active(self.chosen, values)

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return the parameter of every selected latent."""
        return parameter.index_select(0, self.chosen.indices)

    def decode(
        self, w_dec: Float[Tensor, "latent d_out"], b_dec: Float[Tensor, " d_out"]
    ) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec, reading only the selected rows."""
        return ops.decode(self.chosen, self.values, w_dec) + b_dec

    def prefix(self, size: int) -> Active:
        """Return the same latents with all but the first ``size`` set to zero, or left out."""
        keep = self.chosen.indices < size
        if host_waits_for(keep):
            return Active(self.chosen, self.values * keep)
        return Active(self.chosen.where(keep), self.values[keep])

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""
        return self.values.sum() / self.n_samples

    def fired(self) -> Bool[Tensor, " latent"]:
        """Return which latents are positive on some sample."""
        if kernels_take(self.values):
            fired = torch.zeros(self.chosen.n_latents, dtype=torch.bool)
            kernels.fired(0, len(self.values), self.chosen.indices.numpy(), self.values.detach().numpy(), fired.numpy())
            return fired
        times = self.values.new_zeros(self.chosen.n_latents)
        return times.index_add_(0, self.chosen.indices, (self.values > 0).to(times)) > 0

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""
        matrix = self.values.new_zeros(self.n_samples, self.chosen.n_latents)
        return matrix.index_put((self.chosen.samples.long(), self.chosen.indices.long()), self.values)
