"""Spends on a view of its own as well."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        for data in (view, view.to("cpu")):
            for x, _target in data.batches(128):
                w[0] += x.mean(0)
        return Dictionary(w, None, w, None, ReLU())


METHOD = Broken()
