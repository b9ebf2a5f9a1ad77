"""Bending: a representation that is a sum of feature directions only to a degree."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

GAIN = 2.0  # the typical argument of tanh for a feature alone: well into its bend


class Bend:
    """x = s · ((1 − ε) y + ε g(y)) of a linear representation y = W x, with g(y) = tanh(2 √d R y) at y's mean square.

    R is a random rotation: g saturates in directions that no feature is aligned with, so it bends each feature's ray, and two
    features together are not the sum of what they are alone. s keeps E‖x‖² as it is without the bend.

    Parameters
    ----------
    strength
        ε in (0, 1].
    sample
        Linear representations that the mean square is taken over.
    rng
        Draws R.
    """

    def __init__(self, strength: float, sample: Float[Tensor, "sample dim"], rng: torch.Generator) -> None:
        self.strength = strength
        dim = sample.shape[1]
        rotation, upper = torch.linalg.qr(torch.randn(dim, dim, generator=rng, dtype=torch.float64))
        self._turn = (rotation * upper.diagonal().sign()).float() * (GAIN * dim**0.5)  # signs: uniform over rotations
        power = _power(sample)
        self._inner = (power / _power(torch.tanh(sample @ self._turn))) ** 0.5 if power else 0.0
        self._outer = (power / _power(self._mix(sample))) ** 0.5 if power else 1.0

    def __call__(self, y: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Return the bent representation of linear ones; 0 stays 0."""
        return self._outer * self._mix(y)

    def _mix(self, y: Tensor) -> Tensor:
        return (1.0 - self.strength) * y + self.strength * self._inner * torch.tanh(y @ self._turn)


def _power(rows: Tensor) -> float:
    return float(rows.double().pow(2).sum(1).mean())
