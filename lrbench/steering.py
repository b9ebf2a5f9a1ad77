"""The L0 controller: what punishes activity presses harder while more latents are active than are aimed at, and less while fewer are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.activation import Activation, JumpReLU
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
SPEED = 12.0  # of the logarithm of the pressure: how far it can go in a run
FURTHEST = math.log(1000.0)


def mean_l0(latents: Latents) -> Float[Tensor, ""]:
    """Return the active latents per sample of a batch."""
    return (latents.values > 0).sum() / latents.n_samples


class Controller:
    """The pressure of one training, or of a group of them at once: a factor of the weights of all terms that punish activity.

    It starts at 1 and moves as log m += s·tanh(3·(e + h·ė)), where e is the logarithm of the L0 over the target and e + h·ė what it will be
    when it goes on as it does for a seventh of the run. So it stays where it is while the L0 falls fast enough on its own, as at the
    start. After the idea of SynthSAEBench's controller (arXiv 2602.14687); all its constants are shares of the run. Everything is a
    tensor on the device, so that no step waits for it.

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
        self._speed = SPEED / max(1, steps)

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
        self.log_pressure.add_(soon.mul_(GAIN).tanh_(), alpha=self._speed).clamp_(-FURTHEST, FURTHEST)
        torch.exp(self.log_pressure, out=self.pressure)

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps depend on."""
        return {"now": self.averages[0], "before": self.averages[1], "log_pressure": self.log_pressure}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        torch.exp(self.log_pressure, out=self.pressure)


def calibrated(sigma: Activation, z: Float[Tensor, "sample latent"], l0: float) -> Activation:
    """Return a σ with thresholds after all of them moved by the same amount, so that ``l0`` latents a sample are active.

    What the controller missed is made up so, as BatchTopK finds its threshold. Thresholds stay >= 0; another σ stays as it is.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0, 3.0, -1.0], [2.0, 3.0, 4.0, 5.0]])
    >>> [calibrated(JumpReLU(2.5), z, l0).threshold.item() for l0 in (1.0, 3.0, 4.0)]
    [3.0, 1.0, 0.0]
    """
    if not isinstance(sigma, JumpReLU):
        return sigma
    above = torch.where(z > 0, z - sigma.threshold.to(z), -math.inf).flatten()
    keep = min(max(1, round(l0 * len(z))), above.numel())
    return JumpReLU((sigma.threshold.to(z) + above.topk(keep).values[-1]).clamp_min(0.0))
