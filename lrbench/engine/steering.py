"""The L0 controller: what punishes activity presses harder while more latents are active than are aimed at, and less while fewer are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.engine.latents import Latents

# Measured in `quick` (600 steps), on three penalties and targets of a half, one and two times the world's L0: docs/methods.md.
MEMORY = (
    1 / 40,
    1 / 13,
)  # shares of the run over which the L0 of batches is averaged: for where it is, and for where it comes from
AHEAD = (
    0.15  # share of the run by which its way is prolonged: shorter overshoots and kills latents, longer ends too high
)
GAIN = 3.0  # relative error from which the pressure moves nearly at full speed: a third
SPEED = 12.0  # of the logarithm of the pressure: how far it could go in a run
RISE = 0.2  # share of the run in which it gets up to that speed: the L0 falls on its own at first
FURTHEST = math.log(1000.0)


def mean_l0(latents: Latents) -> Float[Tensor, ""]:
    """Return the active latents per sample of a batch."""
    return (latents.values > 0).sum() / latents.n_samples


class Controller:
    """The pressure of one training, or of a group of them at once: a factor of the weights of all terms that punish activity.

    It starts at 1 and moves as log m += s·tanh(3·(e + h·ė)), where e is the logarithm of the L0 over the target and e + h·ė what it will be
    when it goes on as it does for a seventh of the run: the pressure stays where it is while the L0 falls fast enough. After the idea of
    SynthSAEBench's controller (arXiv 2602.14687); all its constants are shares of the run. Everything is a tensor on the device, so that
    no step waits for it.

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
        self.averages = [target.clone() for _ in MEMORY]
        self.log_pressure, self.pressure = torch.zeros_like(target), torch.ones_like(target)
        self._blends = [min(1.0, 1 / (memory * max(1, steps))) for memory in MEMORY]
        self.speed = torch.zeros_like(target)
        self._top = SPEED / max(1, steps)
        self._gain = self._top / max(1.0, RISE * steps)

    def see(self, latents: Latents) -> None:
        """Take the latents of a step into account."""
        if self.on:
            self.steer(mean_l0(latents))

    @torch.no_grad()
    def steer(self, l0: Float[Tensor, "*training"]) -> None:
        """Take the active latents per sample of a step into account, in place."""
        for average, blend in zip(self.averages, self._blends, strict=True):
            average.lerp_(l0, blend)
        now, before = ((average / self.target).clamp_(0.01, 100.0).log_() for average in self.averages)
        soon = now + (AHEAD / (MEMORY[1] - MEMORY[0])) * (now - before)
        self.speed.add_(self._gain).clamp_(max=self._top)
        self.log_pressure.addcmul_(soon.mul_(GAIN).tanh_(), self.speed).clamp_(-FURTHEST, FURTHEST)
        torch.exp(self.log_pressure, out=self.pressure)

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps depend on."""
        now, before = self.averages
        return {"now": now, "before": before, "speed": self.speed, "log_pressure": self.log_pressure}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        torch.exp(self.log_pressure, out=self.pressure)
