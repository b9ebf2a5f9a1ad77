"""A tensor in place of a dictionary."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        return w


METHOD = Broken()
