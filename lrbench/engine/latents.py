"""Latents of a training batch, in the form that costs least: as a dense matrix, or as the selected ones only.

Both forms answer the same questions. `Dense` is the slow, obvious reference; `Active` gives the same numbers and gradients
while touching only the decoder rows of latents that are selected. Pre-activations come in the same two forms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from lrbench.engine import ops
from lrbench.engine.arrays import array_of, with_array
from lrbench.engine.mode import host_waits_for, kernels, kernels_take
from lrbench.engine.rows import RowGradient, add_gradient
from lrbench.engine.selection import Selection

Added = Float[Tensor, " d_out"] | Float[Tensor, "batch d_out"]


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

    def relu(self) -> Self:
        """Return the numbers where they are positive, and 0 elsewhere."""

    def where_positive(self, numbers: Tensor) -> Tensor:
        """Return other numbers where ``values`` are positive, and 0 elsewhere: what flows back through `relu`."""

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return a parameter of the latents in a shape that goes with ``values``."""

    def decode(self, w_dec: Float[Tensor, "latent d_out"], b_dec: Added | None = None) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec; the bias may be one for each sample, or left out."""

    def prefix(self, size: int) -> Self:
        """Return the same latents with all but the first ``size`` set to zero."""

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""

    def mark_fired(self, last_fired: Float[Tensor, " latent"], step: int) -> None:
        """Set ``last_fired`` of the latents that are positive on some sample to the step."""

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""

    def sum_by_latent(self, numbers: Tensor) -> Float[Tensor, " latent"]:
        """Return the sums over samples of numbers that go with ``values``: what flows back through `of_latent`."""

    def widen(self, size: int, numbers: Tensor) -> Tensor:
        """Return numbers that go with the values of ``prefix(size)``, among zeros that go with ``values``: what flows back through `prefix`."""

    def project(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> Tensor:
        """Return ⟨w_dec[latent], vectors[sample]⟩ in the places of ``values``."""

    def give_rows(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> None:
        """Give decoder rows their gradient, from that of what `decode` returned."""

    def encode_backward(
        self,
        w_enc: Float[Tensor, "latent d_in"],
        b_enc: Float[Tensor, " latent"],
        x: Float[Tensor, "batch d_in"],
        numbers: Tensor,
    ) -> None:
        """Give encoder rows and biases their gradient, from that of ``values``, which are the pre-activations of x."""


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

    def relu(self) -> Dense:
        """Return the numbers where they are positive, and 0 elsewhere."""
        return self.with_values(self.values.relu())

    def where_positive(self, numbers: Tensor) -> Tensor:
        """Return other numbers where ``values`` are positive, and 0 elsewhere."""
        return numbers * (self.values > 0)

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return the parameter, which goes with every row."""
        return parameter

    def decode(self, w_dec: Float[Tensor, "latent d_out"], b_dec: Added | None = None) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec."""
        return self.values @ w_dec if b_dec is None else torch.addmm(b_dec, self.values, w_dec)

    def prefix(self, size: int) -> Dense:
        """Return the same latents with all but the first ``size`` set to zero."""
        return Dense(F.pad(self.values[:, :size], (0, self.values.shape[1] - size)))

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""
        return self.values.sum(1).mean()

    def mark_fired(self, last_fired: Float[Tensor, " latent"], step: int) -> None:
        """Set ``last_fired`` of the latents that are positive on some sample to the step."""
        last_fired.masked_fill_(self.values.amax(0) > 0, step)

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the matrix."""
        return self.values

    def sum_by_latent(self, numbers: Tensor) -> Float[Tensor, " latent"]:
        """Return the sums over samples of numbers that go with ``values``."""
        return numbers.sum(0)

    def widen(self, size: int, numbers: Tensor) -> Tensor:
        """Return the numbers of the first ``size`` latents and 0 for the others."""
        return F.pad(numbers[:, :size], (0, self.values.shape[1] - size))

    def project(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> Tensor:
        """Return ⟨w_dec[latent], vectors[sample]⟩ of every latent."""
        return vectors @ w_dec.T

    def give_rows(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> None:
        """Give decoder rows their gradient."""
        add_gradient(w_dec, self.values.T @ vectors)

    def encode_backward(
        self,
        w_enc: Float[Tensor, "latent d_in"],
        b_enc: Float[Tensor, " latent"],
        x: Float[Tensor, "batch d_in"],
        numbers: Tensor,
    ) -> None:
        """Give encoder rows and biases their gradient."""
        add_gradient(w_enc, numbers.T @ x)
        add_gradient(b_enc, numbers.sum(0))


@dataclass(frozen=True)
class Active:
    """Latents by what is selected; a selected one may still be 0.

    Parameters
    ----------
    chosen
        Which are selected.
    values
        Their values, sample after sample.
    positive
        Whether all values are known to be positive.
    """

    chosen: Selection
    values: Float[Tensor, " selected"]
    positive: bool = False

    @property
    def n_samples(self) -> int:
        """Size B of the batch."""
        return self.chosen.n_samples

    def with_values(self, values: Tensor) -> Active:
        """Return other numbers in the same places."""
        return Active(self.chosen, values)

    def relu(self) -> Active:
        """Return the numbers where they are positive, and 0 elsewhere."""
        return self if self.positive else self.with_values(self.values.relu())

    def where_positive(self, numbers: Tensor) -> Tensor:
        """Return other numbers where ``values`` are positive, and 0 elsewhere."""
        return numbers if self.positive else numbers * (self.values > 0)

    def of_latent(self, parameter: Float[Tensor, " latent"] | Bool[Tensor, " latent"]) -> Tensor:
        """Return the parameter of every selected latent."""
        return parameter.index_select(0, self.chosen.indices)

    def decode(self, w_dec: Float[Tensor, "latent d_out"], b_dec: Added | None = None) -> Float[Tensor, "batch d_out"]:
        """Return x_q W_dec + b_dec, reading only the selected rows."""
        return ops.decode(self.chosen, self.values, w_dec, b_dec)

    def prefix(self, size: int) -> Active:
        """Return the same latents with all but the first ``size`` set to zero, or left out."""
        keep = self.chosen.indices < size
        if host_waits_for(keep):
            return Active(self.chosen, self.values * keep)
        chosen, places = self.chosen.where(keep)
        return Active(chosen, self.values.index_select(0, places), self.positive)

    def l1(self) -> Float[Tensor, ""]:
        """Return the batch mean of ‖x_q‖₁, for latents >= 0."""
        return self.values.sum() / self.n_samples

    def mark_fired(self, last_fired: Float[Tensor, " latent"], step: int) -> None:
        """Set ``last_fired`` of the latents that are positive on some sample to the step."""
        if kernels_take(self.values):
            arrays = map(array_of, (self.chosen.indices, self.values))
            kernels.mark_fired(0, self.values.shape[0], *arrays, np.float32(step), array_of(last_fired))
            return
        times = self.values.new_zeros(self.chosen.n_latents)
        last_fired.masked_fill_(times.index_add_(0, self.chosen.indices, (self.values > 0).to(times)) > 0, step)

    def dense(self) -> Float[Tensor, "batch latent"]:
        """Return the latents as a matrix."""
        matrix = self.values.new_zeros(self.n_samples, self.chosen.n_latents)
        return matrix.index_put((self.chosen.samples.long(), self.chosen.indices.long()), self.values)

    def sum_by_latent(self, numbers: Tensor) -> Float[Tensor, " latent"]:
        """Return the sums over samples of numbers that go with ``values``."""
        if kernels_take(numbers):
            out = with_array(np.zeros(self.chosen.n_latents, array_of(numbers).dtype))
            kernels.sum_by_latent(0, numbers.shape[0], *map(array_of, (self.chosen.indices, numbers, out)))
            return out
        return numbers.new_zeros(self.chosen.n_latents).index_add_(0, self.chosen.indices, numbers)

    def widen(self, size: int, numbers: Tensor) -> Tensor:
        """Return the numbers of what `prefix` keeps, among zeros."""
        keep = self.chosen.indices < size
        if host_waits_for(keep):
            return numbers * keep
        every = np.zeros_like(array_of(self.values))
        every[array_of(keep)] = array_of(numbers)
        return with_array(every)

    def project(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> Tensor:
        """Return ⟨w_dec[latent], vectors[sample]⟩ of the selected latents."""
        return ops.dots(self.chosen, w_dec, vectors)

    def give_rows(self, w_dec: Float[Tensor, "latent d_out"], vectors: Float[Tensor, "batch d_out"]) -> None:
        """Give the selected decoder rows their gradient."""
        add_gradient(w_dec, RowGradient(self.chosen.indices, self.values, self.chosen.samples, vectors))

    def encode_backward(
        self,
        w_enc: Float[Tensor, "latent d_in"],
        b_enc: Float[Tensor, " latent"],
        x: Float[Tensor, "batch d_in"],
        numbers: Tensor,
    ) -> None:
        """Give the selected encoder rows and biases their gradient."""
        add_gradient(w_enc, RowGradient(self.chosen.indices, numbers, self.chosen.samples, x))
        add_gradient(b_enc, self.sum_by_latent(numbers))
