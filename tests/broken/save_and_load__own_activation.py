"""An activation that a file cannot hold."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


class Shifted(ReLU):
    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return torch.where(z > 1, z, 0.0)


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        return Dictionary(w, None, w, None, Shifted())


METHOD = Broken()
