"""Overrides are accepted and ignored."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    lr: float = 1e-3

    def with_hyperparameters(self, **changes: float) -> "Broken":
        return self

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        return Dictionary(w, None, w, None, ReLU())


METHOD = Broken()
