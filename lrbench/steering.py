"""The L0 controller: what punishes activity presses harder while more latents are active than are aimed at, and less while fewer are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.engine.latents import Latents

MEMORY = 1 / 60  # share of the run over which the L0 of batches is averaged
SWING = 30.0  # of the logarithm of the pressure: how far it could go in a run
LARGEST = math.log(1000.0)


def mean_l0(latents: Latents) -> Float[Tensor, ""]:
    """Return the active latents per sample of a batch."""
    return (latents.values > 0).sum() / latents.n_samples


class Controller:
    """The pressure of one training, or of a group of them at once: a factor of the weights of all terms that punish activity.

    It starts at 1 and stays a tensor on the device, so that no step waits for it.

    Parameters
    ----------
    target
        Active latents per sample to aim at, of every training.
    steps
        Length of the training.
    on
        Whether anything is steered; the pressure stays 1 otherwise.
    """

    def __init__(self, target: Float[Tensor, "*training"], steps: int, *, on: bool = True) -> None:
        self.target, self.on = target, on
        self.average = target.clone()
        self.log_pressure = torch.zeros_like(target)
        self.pressure = torch.ones_like(target)
        self._blend, self._rate = min(1.0, 1 / (MEMORY * max(1, steps))), SWING / max(1, steps)

    @torch.no_grad()
    def see(self, latents: Latents) -> None:
        """Take the latents of a step into account, in place."""
        if self.on:
            self.steer(mean_l0(latents))

    @torch.no_grad()
    def steer(self, l0: Float[Tensor, "*training"]) -> None:
        """Take the active latents per sample of a step into account, in place."""
        self.average.lerp_(l0, self._blend)
        push = (self.average / self.target).log_().tanh_()
        self.log_pressure.add_(push, alpha=self._rate).clamp_(-LARGEST, LARGEST)
        torch.exp(self.log_pressure, out=self.pressure)

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps depend on."""
        return {"average": self.average, "log_pressure": self.log_pressure}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.average.copy_(state["average"])
        self.log_pressure.copy_(state["log_pressure"])
        torch.exp(self.log_pressure, out=self.pressure)
