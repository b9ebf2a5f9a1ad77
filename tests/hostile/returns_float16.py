"""Returns half precision."""

import torch

import lrbench
from lrbench.activation import ReLU


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        w = torch.randn(view.budget.n_latents, view.d_in).half()
        return lrbench.Dictionary(w, None, w, None, ReLU())


METHOD = Hostile()
