"""Grants itself a larger budget."""

from dataclasses import dataclass, replace

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        object.__setattr__(view, "budget", replace(view.budget, n_samples=10**9))
        return Dictionary(w, None, w, None, ReLU())


METHOD = Broken()
