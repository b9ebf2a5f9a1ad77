"""A generator seeded by the clock."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        rng = torch.Generator()
        rng.seed()
        w = torch.randn(view.budget.n_latents, view.d_in, generator=rng)
        return Dictionary(w, None, w, None, ReLU())


METHOD = Broken()
