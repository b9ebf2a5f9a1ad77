"""The L0 controller: what punishes activity presses harder while more latents are active than are aimed at, and less while fewer are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.engine.latents import Latents

# Measured in `quick` (600 steps), on three penalties and targets of a half, one and two times the world's L0: docs/methods.md.
# MEMORY: shares of the run over which the L0 of batches is averaged, for where it is and for where it comes from.
# AHEAD: share of the run by which its way is prolonged; less overshoots and kills latents, more ends too high.
MEMORY = (1 / 40, 1 / 13)
AHEAD = 0.15
GAIN = 3.0  # relative error from which the pressure moves nearly at full speed: a third
SPEED = 12.0  # of the logarithm of the pressure: how far it could go in a run
RISE = 0.2  # share of the run in which it gets up to that speed: the L0 falls on its own at first


def mean_l0(latents: Latents) -> Float[Tensor, ""]:
    """Return the active latents per sample of a batch."""
    return (latents.values > 0).sum() / latents.n_samples


class Controller:
    """The pressure of one training, or of a group of them at once: a factor of the weights of all terms that punish activity.

    It starts at 1 and moves as log m += s·tanh(`GAIN`·(e + h·ė)), where e is the logarithm of the L0 over the target and e + h·ė what it will be
    when it goes on as it does for `AHEAD` of the run: the pressure stays where it is while the L0 falls fast enough. After the idea of
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
        self.target, self.on, steps = target, on, max(1, steps)
        self.averages = torch.stack([target, target])
        self.speed, self.log_pressure = torch.zeros_like(target), torch.zeros_like(target)
        self.pressure = torch.ones_like(target)
        # At most a half, so that no average reaches 0.
        self._blends = self._by_average([min(0.5, 1 / (memory * steps)) for memory in MEMORY])
        far = AHEAD / (MEMORY[1] - MEMORY[0])
        self._ahead = self._by_average([GAIN * (1 + far), -GAIN * far])
        self._top, self._rise = SPEED / steps, SPEED / steps / max(1.0, RISE * steps)

    def _by_average(self, numbers: list[float]) -> Tensor:
        return self.target.new_tensor(numbers).view(-1, *[1] * self.target.dim())

    def see(self, latents: Latents) -> None:
        """Take the latents of a step into account."""
        if self.on:
            self.steer(mean_l0(latents))

    @torch.no_grad()
    def steer(self, l0: Float[Tensor, "*training"]) -> None:
        """Take the active latents per sample of a step into account, in place."""
        self.averages.lerp_(l0, self._blends)
        push = (self.averages / self.target).log_().mul_(self._ahead).sum(0).tanh_()
        self.speed.add_(self._rise).clamp_(max=self._top)
        torch.exp(self.log_pressure.addcmul_(push, self.speed), out=self.pressure)

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps depend on."""
        return {"averages": self.averages, "speed": self.speed, "log_pressure": self.log_pressure}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        torch.exp(self.log_pressure, out=self.pressure)
