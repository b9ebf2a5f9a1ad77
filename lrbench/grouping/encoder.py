"""The pre-activations of one member of a group, cut out of the product that was formed for all of them.

Everything has static shapes and nothing waits for a device, so that a CUDA graph can hold it: what is selected is a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Dense


@dataclass(frozen=True)
class Masked(Dense):
    """Latents as a matrix that is 0 wherever nothing is selected, whatever values it is given.

    Parameters
    ----------
    values
        The numbers, 0 outside of the mask.
    mask
        What is selected.
    """

    mask: Bool[Tensor, "batch latent"]

    def with_values(self, values: Tensor) -> Masked:
        """Return other numbers in the selected places."""
        return Masked(torch.where(self.mask, values, 0.0), self.mask)


class MemberEncoder(Encoder):
    """z = W_enc x + b_enc of one member, where the group's product holds it already.

    Parameters
    ----------
    w, b
        Encoder rows and bias of the member.
    x
        Its batch. Of other inputs the product is formed when it is asked for.
    z
        Its pre-activations of that batch.
    """

    def __init__(
        self,
        w: Float[Tensor, "latent d_in"],
        b: Float[Tensor, " latent"],
        x: Float[Tensor, "batch d_in"],
        z: Float[Tensor, "batch latent"],
    ) -> None:
        super().__init__(w, b)
        self._x, self._z = x, z

    def _product(self, x: Tensor) -> Tensor:
        return self._z if x is self._x else super()._product(x)

    def above(self, x: Float[Tensor, "batch d_in"], floor: Float[Tensor, " latent"] | float) -> Dense:
        """Return every pre-activation: more than what exceeds the floor is allowed."""
        return self.all(x)

    def top(self, x: Float[Tensor, "batch d_in"], k: int) -> Masked:  # type: ignore[override]  # another form of `Latents`
        """Return the k largest of each sample."""
        return _largest(self.all(x).values, k)

    def batch_top(self, x: Float[Tensor, "batch d_in"], k: float) -> Masked:  # type: ignore[override]  # as in `top`
        """Return the k·B largest of a batch of B, rounded."""
        z = self.all(x).values
        k = min(k, z.shape[1])
        flat = _largest(z.reshape(1, -1), max(1, round(k * len(z))))
        return Masked(flat.values.view_as(z), flat.mask.view_as(z))

    def top_of_last_batch(self, n_samples: int, k: int, among: Bool[Tensor, " latent"]) -> Masked:  # type: ignore[override]  # as in `top`
        """Return the k largest among some latents, of the first samples of the batch that was last selected from."""
        assert self._last is not None, "`top_of_last_batch` needs a selection before it"
        return _largest(self._product(self._last[0])[:n_samples], k, among)


def _largest(z: Tensor, k: int, among: Tensor | None = None) -> Masked:
    """Return the k largest of every row, of all latents or among some."""
    with torch.no_grad():
        keys = z if among is None else z.masked_fill(~among, -torch.inf)
        winners = keys.topk(min(k, z.shape[1]), dim=1, sorted=False).indices
        mask = torch.zeros_like(z, dtype=torch.bool).scatter_(1, winners, True)
        if among is not None:
            mask &= among
    return Masked(torch.where(mask, z, 0.0), mask)
