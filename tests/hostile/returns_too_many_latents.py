"""Returns more latents than the budget allows."""

import torch

import lrbench
from lrbench.activation import ReLU


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        w = torch.randn(view.budget.n_latents + 1, view.d_in)
        return lrbench.Dictionary(w, None, w, None, ReLU())


METHOD = Hostile()
